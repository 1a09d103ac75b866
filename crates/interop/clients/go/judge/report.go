package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	client           = "amqp091-go"
	situationTimeout = 15 * time.Second
)

// skipped is the panic value of a situation that this client cannot express.
type skipped string

type expectation struct{ scope, code, text string }

// report prints whole lines, because the idle minute reports from its own goroutine.
type report struct {
	lock         sync.Mutex
	failures     int
	broker       string
	expectations map[string]expectation
}

func newReport(path string) *report {
	content, err := os.ReadFile(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, "the expectations of all clients are needed:", err)
		os.Exit(2)
	}
	broker, rows := os.Getenv("INTEROP_BROKER"), map[string]expectation{}
	for _, line := range strings.Split(string(content), "\n") {
		part := strings.SplitN(line, "|", 6)
		if strings.HasPrefix(line, "#") || len(part) < 6 {
			continue
		}
		for i := range part {
			part[i] = strings.TrimSpace(part[i])
		}
		_, known := rows[part[0]]
		if part[1] == broker || part[1] == "*" && !known {
			rows[part[0]] = expectation{scope: part[2], code: part[3], text: part[5]}
		}
	}
	return &report{broker: broker, expectations: rows}
}

func objectName(situation string) string { return "interop." + client + "." + situation }

func (r *report) line(kind, situation, text string) {
	r.lock.Lock()
	defer r.lock.Unlock()
	if kind == "FAIL" {
		r.failures++
	}
	if text = strings.Join(strings.Fields(text), " "); text != "" && kind != "observe" {
		text = ": " + text
	} else if text != "" {
		text = " " + text
	}
	fmt.Printf("%s %s %s%s\n", kind, client, situation, text)
}

// waiting tells whoever started us that only the idle minute is left.
func (r *report) waiting() {
	r.lock.Lock()
	defer r.lock.Unlock()
	fmt.Println("waiting", client)
}

// checkError compares what ended a channel or connection with the row of expected.txt. This client
// shows no class and method ids.
func (r *report) checkError(situation, scope string, got *amqp.Error) error {
	r.line("observe", situation, fmt.Sprintf("%s %d - %s", scope, got.Code, got.Reason))
	want := r.expectations[situation]
	text := strings.ReplaceAll(want.text, "{n}", objectName(situation))
	if scope != want.scope || fmt.Sprint(got.Code) != want.code || !strings.Contains(got.Reason, text) {
		return fmt.Errorf("expected %s %s %q, got %s %d %q", want.scope, want.code, text, scope, got.Code, got.Reason)
	}
	return nil
}

// run calls check in a goroutine of its own, so that a lost answer costs one situation and not the script.
func (r *report) run(situation string, limit time.Duration, check func() error) {
	done := make(chan error, 1)
	skip := make(chan skipped, 1)
	go func() {
		defer func() {
			switch value := recover().(type) {
			case nil:
			case skipped:
				skip <- value
			case error:
				done <- value
			default:
				done <- fmt.Errorf("%v", value)
			}
		}()
		done <- check()
	}()
	select {
	case why := <-skip:
		r.line("skip", situation, string(why))
	case err := <-done:
		if err != nil {
			r.line("FAIL", situation, err.Error())
		} else {
			r.line("ok", situation, "")
		}
	case <-time.After(limit):
		r.line("FAIL", situation, fmt.Sprintf("no answer within %s", limit))
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func equal(got, want any) {
	if fmt.Sprint(got) != fmt.Sprint(want) {
		panic(fmt.Errorf("expected %v, got %v", want, got))
	}
}

// eventually polls: some effects, such as a requeue after a close, are not tied to a reply.
func eventually(condition func() bool) {
	for deadline := time.Now().Add(5 * time.Second); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			panic(errors.New("condition not met in time"))
		}
	}
}
