//! The commands of the executable that talk to the management API.

use crate::api::Api;
use expect_test::{Expect, expect};
use leveret_broker::Wait;
use std::process::{Command, Output, Stdio};

impl Api {
    fn command(&self, line: &str, input: &str) -> Output {
        use std::io::Write;
        let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
        command.args(line.split(' ')).env("LEVERET_HTTP", format!("http://{}", self.http));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("the executable starts");
        let _ = process.stdin.take().expect("it is piped").write_all(input.as_bytes());
        process.wait_with_output().expect("it ends")
    }

    /// Compares what is printed, errors included.
    fn check_command(&self, line: &str, expected: Expect) {
        let Output { status, stdout, stderr } = self.command(line, "");
        let text = [stdout, stderr].concat();
        let code = if status.success() { String::new() } else { format!("{}", status.code().unwrap_or(-1)) };
        expected.assert_eq(&format!("{}{code}", String::from_utf8_lossy(&text)));
    }
}

#[test]
fn queues_are_looked_into_and_worked_on() {
    let api = Api::start();
    let client = api.client();
    ["mail", "other"].iter().for_each(|queue| drop(client.declare_queue(queue).expect("declared")));
    for body in ["two hares", "a rabbit", "three hares"] {
        client.publish("", "mail", body).wait().expect("published");
    }
    api.check_command(
        "queue peek mail --contains hares --table -n 1",
        expect![[r#"
        #0   -> mail  9 B
            delivery_mode: 2
          two hares
    "#]],
    );
    api.check_command(
        "queue move mail other -n 2 --table",
        expect![[r#"
        2 messages moved
    "#]],
    );
    api.check_command(
        "queue purge other --table",
        expect![[r#"
        2 messages purged
    "#]],
    );
    api.check_command("queue pause mail", expect![[""]]);
    // How fast it goes depends on when that was looked at.
    let queues = String::from_utf8(api.command("queues --table", "").stdout).expect("text");
    assert!(queues.contains("/      mail   D   paused       1        0"), "{queues}");
    api.check_command(
        "queue move mail nothere",
        expect![[r#"
        leveret: the broker answers 404: no queue 'nothere' in vhost '/'
        1"#]],
    );
    api.check_command(
        "queue delete mail --if-empty",
        expect![[r#"
        leveret: the broker answers 400: queue 'mail' in vhost '/' not empty
        1"#]],
    );
    api.check_command("queue delete mail", expect![[""]]);
    api.check_command(
        "queue peek mail",
        expect![[r#"
        leveret: there is nothing at queues / mail browse
        1"#]],
    );
}

#[test]
fn users_and_what_they_may_do() {
    let api = Api::start();
    let set = api.command("users set ann --tags monitoring,policymaker", "secret\n");
    assert!(set.status.success(), "{set:?}");
    api.check_command(
        "users --table",
        expect![[r#"
        NAME   TAGS
        ann    monitoring,policymaker
        guest  administrator
    "#]],
    );
    api.check_command("permissions set ann --configure ^$ --write ^mail", expect![[""]]);
    api.check_command(
        "permissions --table",
        expect![[r#"
        VHOST  USER   CONFIGURE  WRITE  READ
        /      ann    ^$         ^mail  .*
        /      guest  .*         .*     .*
    "#]],
    );
    api.check_command("permissions set ann --configure (", expect![[r#"
        leveret: the broker answers 400: configure: '(' is not a valid pattern: Parsing error at position 1: Opening parenthesis without closing parenthesis
        1"#]]);
    api.check_command("users delete ann", expect![[""]]);
    api.check_command(
        "users delete ann",
        expect![[r#"
        leveret: there is nothing at users ann
        1"#]],
    );
    let refused = api.command("users set ann", "\n");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("needs a password"), "{refused:?}");
}

#[test]
fn virtual_hosts_policies_and_definitions() {
    let api = Api::start();
    api.check_command("vhosts add shop --description hares", expect![[""]]);
    api.check_command("policies set short ^tmp {\"max-length\":3} --vhost shop --apply-to queues", expect![[""]]);
    api.check_command(
        "policies set wrong ^tmp {\"max-longth\":3} --vhost shop",
        expect![[r#"
        leveret: the broker answers 400: Validation failed

        [{<<"max-longth">>,3}] are not recognised policy settings

        1"#]],
    );
    api.check_command(
        "policies --table",
        expect![[r#"
        VHOST  NAME   PATTERN  APPLIES TO  PRIORITY  DEFINITION
        shop   short  ^tmp     queues             0  {"max-length":3}
    "#]],
    );
    let exported = api.command("definitions export --vhost shop", "");
    assert!(String::from_utf8_lossy(&exported.stdout).contains("max-length"), "{exported:?}");
    api.check_command("vhosts delete shop", expect![[""]]);
    api.check_command("vhosts add shop", expect![[""]]);
    let imported = api.command("definitions import - --vhost shop", &String::from_utf8_lossy(&exported.stdout));
    assert!(imported.status.success(), "{imported:?}");
    api.check_command(
        "policies --table",
        expect![[r#"
        VHOST  NAME   PATTERN  APPLIES TO  PRIORITY  DEFINITION
        shop   short  ^tmp     queues             0  {"max-length":3}
    "#]],
    );
}

#[test]
fn the_broker_is_well_or_cannot_be_asked() {
    let api = Api::start();
    api.check_command(
        "health --table",
        expect![[r#"
        CHECK
        alarms                  ok  neither memory nor disk runs out
        virtual-hosts           ok  every virtual host serves
        ready-to-serve-clients  ok  clients can connect
    "#]],
    );
    api.check_command(
        "exchanges --table",
        expect![[r#"
        VHOST  NAME         TYPE     IS
        /                   direct   D
        /      amq.direct   direct   D
        /      amq.fanout   fanout   D
        /      amq.headers  headers  D
        /      amq.match    headers  D
        /      amq.topic    topic    D
    "#]],
    );
    api.check_command(
        "bindings --table",
        expect![[r#"
        VHOST  SOURCE  TO  DESTINATION  KEY  ARGUMENTS
    "#]],
    );
    api.check_command(
        "connections --table",
        expect![[r#"
        VHOST  NAME  USER  STATE  CHANNELS  CLIENT  VERSION  RECEIVED/S  SENT/S
    "#]],
    );
    api.check_command(
        "channels --json",
        expect![[r#"
        []
    "#]],
    );
    api.check_command("health --url http://guest:wrong@127.0.0.1:1", expect![[r#"
        leveret: cannot reach the management API at http://127.0.0.1:1/; is the broker running there?: io: Connection refused (os error 111)
        1"#]]);
}
