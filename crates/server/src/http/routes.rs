//! All endpoints.

use super::access::Who;
use super::answer::Answer;
use super::call::Call;
use super::endpoint::{Endpoint, Field, Gives, Kind, PAGED, Param, SAMPLED, SORTED, may, need, param};
use super::{
    apps, bindings, channels, connections, consumers, costs, dead_letters, definitions, exchanges, health, history,
    messages, node, openapi, operations, overview, parameters, permissions, policies, queues, scrape, stream, tail,
    users, vhosts,
};
use axum::http::Method;

/// The table that the router and the OpenAPI document are made of.
pub fn all() -> Vec<Endpoint> {
    let mut all = Vec::new();
    all.extend(about_the_broker());
    all.extend(about_vhosts());
    all.extend(about_exchanges());
    all.extend(about_queues());
    all.extend(about_bindings());
    all.extend(about_connections());
    all.extend(about_users());
    all.extend(about_policies());
    all.extend(about_parameters());
    all.extend(about_definitions());
    all.extend(about_health());
    all
}

/// What endpoints are for that are known and not built.
pub const NOT_SUPPORTED: &str = "Not supported by this version";

type Run = fn(&Call) -> Answer;

fn get(path: &'static str, who: Who, run: Run, gives: Gives, summary: &'static str) -> Endpoint {
    let endpoint = Endpoint::new(Method::GET, path, who, run, gives, summary);
    match gives {
        Gives::Pages => endpoint.query(PAGED).query(SORTED),
        Gives::List => endpoint.query(SORTED),
        _ => endpoint,
    }
}

fn set(path: &'static str, who: Who, run: Run, summary: &'static str) -> Endpoint {
    Endpoint::new(Method::PUT, path, who, run, Gives::Put, summary)
}

fn post(path: &'static str, who: Who, run: Run, gives: Gives, summary: &'static str) -> Endpoint {
    Endpoint::new(Method::POST, path, who, run, gives, summary)
}

fn delete(path: &'static str, who: Who, run: Run, summary: &'static str) -> Endpoint {
    Endpoint::new(Method::DELETE, path, who, run, Gives::Done, summary)
}

/// A range of the past.
const RANGE: &[Param] = &[param("range", Kind::Text, "600, 3600 or 86400 seconds")];

/// Parameters of a deletion.
const IF_UNUSED: &[Param] = &[param("if-unused", Kind::Flag, "only without consumers or bindings")];
const IF_EMPTY: &[Param] = &[param("if-empty", Kind::Flag, "only without messages")];

fn about_the_broker() -> Vec<Endpoint> {
    const NAME: &[Field] = &[need("name", Kind::Text)];
    const FAMILIES: &[Param] = &[
        param("family", Kind::Text, "a family of metrics; may be repeated"),
        param("vhost", Kind::Text, "only of this virtual host; may be repeated"),
    ];
    const LIMIT: &[Param] = &[param("limit", Kind::Number(1, 10_000), "how many of those that cost most")];
    const ONE_VHOST: &[Param] = &[param("vhost", Kind::Text, "only of this virtual host")];
    const STREAM: &[Param] = &[
        param("get", Kind::Texts, "path of what to get, with its parameters; up to 8 times"),
        param("every", Kind::Number(1, 3600), "seconds between looks"),
    ];
    use Gives::{List, Object, Text};
    use Who::{Administrator, Anyone, Management, Monitoring};
    vec![
        get("/api/overview", Management, overview::show, Object, "The broker as a whole").query(SAMPLED),
        get("/api/cluster-name", Management, overview::get_cluster_name, Object, "What the broker is called"),
        set("/api/cluster-name", Administrator, overview::set_cluster_name, "Call the broker something else")
            .body(NAME),
        get("/api/whoami", Management, overview::whoami, Object, "Who is logged in"),
        get("/api/auth", Anyone, overview::auth, Object, "How to log in"),
        get("/api/extensions", Management, overview::extensions, List, "What extends RabbitMQ's pages: nothing"),
        get("/api/feature-flags", Administrator, overview::feature_flags, List, "What can be done"),
        set("/api/feature-flags/{name}/enable", Administrator, overview::enable_feature_flag, "Enable what is enabled"),
        post(
            "/api/rebalance/queues",
            Administrator,
            overview::rebalance,
            Gives::Done,
            "Spread queues over the nodes, of which there is one",
        ),
        get("/api/nodes", Monitoring, node::list, List, "The nodes, of which there is one"),
        get("/api/nodes/{node}", Monitoring, node::get, Object, "The node"),
        get("/api/nodes/{node}/memory", Monitoring, node::memory, Object, "The node's memory"),
        get("/api/auth/attempts/{node}", Monitoring, node::auth_attempts, List, "How many logins succeeded and failed"),
        get("/api/history", Management, history::totals, Object, "How the broker was, for charts").query(RANGE),
        get("/api/alarms", Management, health::list_alarms, List, "What needs somebody now"),
        get("/api/costs", Management, costs::list, Object, "What queues and exchanges cost").query(LIMIT),
        get("/api/apps", Management, apps::list, Object, "Topics and subscriptions of SDK applications, as a graph"),
        get("/api/dead-letters", Management, dead_letters::list, List, "Queues of dead letters, and why they died")
            .query(ONE_VHOST),
        get("/api/stream", Management, stream::open, Gives::Events, "Things to get, told whenever they change")
            .query(STREAM),
        get("/metrics", Monitoring, scrape::aggregated, Text, "Metrics for Prometheus, summed up"),
        get("/metrics/per-object", Monitoring, scrape::per_object, Text, "Metrics of each queue, channel, connection"),
        get("/metrics/detailed", Monitoring, scrape::some, Text, "Families of metrics").query(FAMILIES),
        get("/api/openapi.json", Management, openapi::document, Object, "This document"),
    ]
}

fn about_vhosts() -> Vec<Endpoint> {
    use Gives::{List, Object, Pages};
    use Who::{Administrator, Management, Vhost};
    const FIELDS: &[Field] = &[
        may("description", Kind::Text),
        may("tags", Kind::Texts),
        may("default_queue_type", Kind::Text),
        may("tracing", Kind::Flag),
    ];
    vec![
        get("/api/vhosts", Management, vhosts::list, Pages, "Virtual hosts"),
        get("/api/vhosts/{vhost}", Administrator, vhosts::get, Object, "A virtual host"),
        set("/api/vhosts/{vhost}", Administrator, vhosts::set, "Make or change a virtual host").body(FIELDS),
        delete("/api/vhosts/{vhost}", Administrator, vhosts::delete, "Delete a virtual host with all that is in it"),
        post(
            "/api/vhosts/{vhost}/start/{node}",
            Administrator,
            vhosts::start,
            Gives::Done,
            "Start a virtual host; all are started",
        ),
        get("/api/vhosts/{vhost}/permissions", Administrator, permissions::of_vhost, List, "Who may do what there"),
        get(
            "/api/vhosts/{vhost}/topic-permissions",
            Administrator,
            permissions::topics_of_vhost,
            List,
            "Who may use which routing keys there",
        ),
        get("/api/vhosts/{vhost}/connections", Vhost, connections::list_in, Pages, "Connections to a virtual host"),
        get("/api/vhosts/{vhost}/channels", Vhost, channels::list_in, Pages, "Channels to a virtual host"),
    ]
}

fn about_exchanges() -> Vec<Endpoint> {
    use Gives::{List, Object, Pages};
    use Who::{Management, Vhost};
    const FIELDS: &[Field] = &[
        may("type", Kind::Text),
        may("durable", Kind::Flag),
        may("auto_delete", Kind::Flag),
        may("internal", Kind::Flag),
        may("arguments", Kind::Object),
    ];
    const KEY: &[Param] = &[param("key", Kind::Text, "pattern of routing keys; # without it")];
    const MESSAGE: &[Field] = &[
        need("routing_key", Kind::Text),
        need("properties", Kind::Object),
        need("payload", Kind::Text),
        need("payload_encoding", Kind::Text),
    ];
    vec![
        get("/api/exchanges", Management, exchanges::list_all, Pages, "Exchanges of all virtual hosts"),
        get("/api/exchanges/{vhost}", Vhost, exchanges::list_in, Pages, "Exchanges of a virtual host"),
        get("/api/exchanges/{vhost}/{name}", Vhost, exchanges::get, Object, "An exchange"),
        set("/api/exchanges/{vhost}/{name}", Vhost, exchanges::declare, "Declare an exchange").body(FIELDS),
        delete("/api/exchanges/{vhost}/{name}", Vhost, exchanges::delete, "Delete an exchange").query(IF_UNUSED),
        get(
            "/api/exchanges/{vhost}/{name}/bindings/source",
            Vhost,
            bindings::from_exchange,
            List,
            "Bindings from an exchange",
        ),
        get(
            "/api/exchanges/{vhost}/{name}/bindings/destination",
            Vhost,
            bindings::to_exchange,
            List,
            "Bindings to an exchange",
        ),
        get("/api/exchanges/{vhost}/{name}/tail", Vhost, tail::open, Gives::Events, "What is published, as it comes")
            .query(KEY),
        post("/api/exchanges/{vhost}/{name}/publish", Vhost, messages::publish, Object, "Publish a message")
            .body(MESSAGE),
    ]
}

fn about_queues() -> Vec<Endpoint> {
    const ACTION: &[Field] = &[need("action", Kind::Text)];
    use Gives::{Done, List, Object, Pages};
    use Who::{Management, Vhost};
    const FIELDS: &[Field] =
        &[may("durable", Kind::Flag), may("auto_delete", Kind::Flag), may("arguments", Kind::Object)];
    const GET: &[Field] = &[
        need("count", Kind::Number(0, 10_000)),
        need("ackmode", Kind::Text),
        need("encoding", Kind::Text),
        may("truncate", Kind::Number(0, i64::MAX)),
    ];
    const BROWSE: &[Param] = &[
        param("count", Kind::Number(1, 500), "messages at most"),
        param("from", Kind::Number(0, i64::MAX), "position of the first; next of an earlier answer goes on there"),
        param("offset", Kind::Number(0, i64::MAX), "messages to pass over"),
        param("state", Kind::Text, "ready, unacked or waiting"),
        param("key", Kind::Text, "part of the routing key"),
        param("contains", Kind::Text, "part of the body"),
        param("filter", Kind::Text, "condition on headers and properties"),
        param("truncate", Kind::Number(0, 1_048_576), "bytes of a body at most"),
        param("scan", Kind::Number(1, 10_000_000), "messages to look into at most"),
    ];
    const MOVE: &[Field] = &[
        may("queue", Kind::Text),
        may("exchange", Kind::Text),
        may("routing_key", Kind::Text),
        may("count", Kind::Number(1, i64::MAX)),
    ];
    const REDRIVE: &[Field] = &[may("count", Kind::Number(1, i64::MAX))];
    vec![
        get("/api/queues", Management, queues::list_all, Pages, "Queues of all virtual hosts").query(SAMPLED),
        get("/api/queues/{vhost}", Vhost, queues::list_in, Pages, "Queues of a virtual host").query(SAMPLED),
        get("/api/queues/{vhost}/{name}", Vhost, queues::get, Object, "A queue").query(SAMPLED),
        set("/api/queues/{vhost}/{name}", Vhost, queues::declare, "Declare a queue").body(FIELDS),
        delete("/api/queues/{vhost}/{name}", Vhost, queues::delete, "Delete a queue").query(IF_UNUSED).query(IF_EMPTY),
        get("/api/queues/{vhost}/{name}/bindings", Vhost, bindings::of_queue, List, "Bindings to a queue"),
        delete("/api/queues/{vhost}/{name}/contents", Vhost, queues::purge, "Drop a queue's ready messages"),
        post("/api/queues/{vhost}/{name}/actions", Vhost, queues::act, Done, "What mirrors would have to do")
            .body(ACTION),
        post("/api/queues/{vhost}/{name}/get", Vhost, messages::get, List, "Get messages").body(GET),
        get("/api/queues/{vhost}/{name}/browse", Vhost, operations::browse, Object, "Look at messages").query(BROWSE),
        get("/api/queues/{vhost}/{name}/history", Vhost, history::of_queue, Object, "How a queue was, for charts")
            .query(RANGE),
        set("/api/queues/{vhost}/{name}/pause", Vhost, operations::pause, "Hand no messages out"),
        set("/api/queues/{vhost}/{name}/resume", Vhost, operations::resume, "Hand messages out again"),
        post("/api/queues/{vhost}/{name}/move", Vhost, operations::move_messages, Object, "Move messages").body(MOVE),
        post("/api/queues/{vhost}/{name}/redrive", Vhost, operations::redrive, Object, "Send dead letters back")
            .body(REDRIVE),
    ]
}

fn about_bindings() -> Vec<Endpoint> {
    use Gives::{List, Made, Object};
    use Who::{Management, Vhost};
    const QUEUE: &str = "/api/bindings/{vhost}/e/{source}/q/{queue}";
    const QUEUE_ONE: &str = "/api/bindings/{vhost}/e/{source}/q/{queue}/{properties}";
    const EXCHANGE: &str = "/api/bindings/{vhost}/e/{source}/e/{exchange}";
    const EXCHANGE_ONE: &str = "/api/bindings/{vhost}/e/{source}/e/{exchange}/{properties}";
    const FIELDS: &[Field] = &[may("routing_key", Kind::Text), may("arguments", Kind::Object)];
    vec![
        get("/api/bindings", Management, bindings::list_all, List, "Bindings of all virtual hosts"),
        get("/api/bindings/{vhost}", Vhost, bindings::list_in, List, "Bindings of a virtual host"),
        get(QUEUE, Vhost, bindings::between, List, "Bindings from an exchange to a queue"),
        post(QUEUE, Vhost, bindings::bind, Made, "Bind a queue to an exchange").body(FIELDS),
        get(QUEUE_ONE, Vhost, bindings::get, Object, "A binding to a queue"),
        delete(QUEUE_ONE, Vhost, bindings::unbind, "Remove a binding to a queue"),
        get(EXCHANGE, Vhost, bindings::between, List, "Bindings from an exchange to another"),
        post(EXCHANGE, Vhost, bindings::bind, Made, "Bind an exchange to another").body(FIELDS),
        get(EXCHANGE_ONE, Vhost, bindings::get, Object, "A binding to an exchange"),
        delete(EXCHANGE_ONE, Vhost, bindings::unbind, "Remove a binding to an exchange"),
    ]
}

fn about_connections() -> Vec<Endpoint> {
    use Gives::{List, Object, Pages};
    use Who::{Management, Vhost};
    vec![
        get("/api/connections", Management, connections::list_all, Pages, "Open connections"),
        get("/api/connections/{name}", Management, connections::get, Object, "An open connection"),
        delete("/api/connections/{name}", Management, connections::close, "Close a connection"),
        get("/api/connections/{name}/channels", Management, channels::of_connection, Pages, "A connection's channels"),
        get("/api/connections/username/{user}", Management, connections::list_of_user, List, "A user's connections"),
        delete(
            "/api/connections/username/{user}",
            Management,
            connections::close_of_user,
            "Close all connections of a user",
        ),
        get("/api/channels", Management, channels::list_all, Pages, "Open channels"),
        get("/api/channels/{name}", Management, channels::get, Object, "An open channel"),
        get("/api/consumers", Management, consumers::list_all, List, "Consumers"),
        get("/api/consumers/{vhost}", Vhost, consumers::list_in, List, "Consumers of a virtual host"),
    ]
}

fn about_users() -> Vec<Endpoint> {
    const USERS: &[Field] = &[need("users", Kind::Texts)];
    use Gives::{Done, List, Object};
    use Who::Administrator;
    const USER: &[Field] = &[
        need("tags", Kind::Texts),
        may("password", Kind::Text),
        may("password_hash", Kind::Text),
        may("hashing_algorithm", Kind::Text),
    ];
    const RIGHTS: &[Field] = &[need("configure", Kind::Text), need("write", Kind::Text), need("read", Kind::Text)];
    const TOPIC: &[Field] = &[need("exchange", Kind::Text), need("write", Kind::Text), need("read", Kind::Text)];
    vec![
        get("/api/users", Administrator, users::list, List, "Users"),
        get("/api/users/", Administrator, users::list, List, "Users"),
        get("/api/users/without-permissions", Administrator, users::without_permissions, List, "Users who may nothing"),
        post("/api/users/bulk-delete", Administrator, users::delete_many, Done, "Delete users").body(USERS),
        get("/api/users/{user}", Administrator, users::get, Object, "A user"),
        set("/api/users/{user}", Administrator, users::set, "Make or change a user").body(USER),
        delete("/api/users/{user}", Administrator, users::delete, "Delete a user, and close the user's connections"),
        get("/api/users/{user}/permissions", Administrator, permissions::of_user, List, "What a user may do"),
        get(
            "/api/users/{user}/topic-permissions",
            Administrator,
            permissions::topics_of_user,
            List,
            "Which routing keys a user may use",
        ),
        get("/api/permissions", Administrator, permissions::list, List, "Who may do what where"),
        get("/api/permissions/{vhost}/{user}", Administrator, permissions::get, Object, "What a user may do there"),
        set("/api/permissions/{vhost}/{user}", Administrator, permissions::set, "Let a user do something there")
            .body(RIGHTS),
        delete("/api/permissions/{vhost}/{user}", Administrator, permissions::delete, "Close a virtual host to a user"),
        get("/api/topic-permissions", Administrator, permissions::list_topics, List, "Who may use which routing keys"),
        get(
            "/api/topic-permissions/{vhost}/{user}",
            Administrator,
            permissions::get_topics,
            List,
            "Which routing keys a user may use there",
        ),
        set(
            "/api/topic-permissions/{vhost}/{user}",
            Administrator,
            permissions::set_topic,
            "Let a user use only some routing keys of an exchange",
        )
        .body(TOPIC),
        delete(
            "/api/topic-permissions/{vhost}/{user}",
            Administrator,
            permissions::delete_topics,
            "Let a user use all routing keys again",
        ),
        delete(
            "/api/topic-permissions/{vhost}/{user}/{exchange}",
            Administrator,
            permissions::delete_topics,
            "Let a user use all routing keys of an exchange again",
        ),
    ]
}

fn about_policies() -> Vec<Endpoint> {
    use Gives::{List, Object};
    use Who::{Administrator, Management, Policymaker, Vhost};
    const OPERATOR: &str = "/api/operator-policies/{vhost}/{name}";
    const FIELDS: &[Field] = &[
        need("pattern", Kind::Text),
        need("definition", Kind::Object),
        may("priority", Kind::Number(i64::MIN, i64::MAX)),
        may("apply-to", Kind::Text),
    ];
    vec![
        get("/api/policies", Management, policies::list, List, "Policies of all virtual hosts"),
        get("/api/policies/{vhost}", Vhost, policies::list_in, List, "Policies of a virtual host"),
        get("/api/policies/{vhost}/{name}", Vhost, policies::get, Object, "A policy"),
        set("/api/policies/{vhost}/{name}", Policymaker, policies::set, "Make or change a policy").body(FIELDS),
        delete("/api/policies/{vhost}/{name}", Policymaker, policies::delete, "Delete a policy"),
        get("/api/operator-policies", Management, policies::list_operator, List, "The operator's policies"),
        get("/api/operator-policies/{vhost}", Vhost, policies::list_operator_in, List, "The operator's policies there"),
        get(OPERATOR, Administrator, policies::get_operator, Object, "A policy of the operator"),
        set(OPERATOR, Administrator, policies::set_operator, "Make or change a policy of the operator").body(FIELDS),
        delete(OPERATOR, Administrator, policies::delete_operator, "Delete a policy of the operator"),
    ]
}

fn about_parameters() -> Vec<Endpoint> {
    use Gives::{List, Object};
    use Who::{Administrator, Management, Parameters, Policymaker, Vhost};
    const ONE: &str = "/api/parameters/{component}/{vhost}/{name}";
    const VALUE: &[Field] = &[need("value", Kind::Any)];
    vec![
        get("/api/parameters", Parameters, parameters::list, List, "Parameters, the operator's policies among them"),
        get("/api/parameters/{component}", Parameters, parameters::list_of, List, "Parameters of a component"),
        get(
            "/api/parameters/{component}/{vhost}",
            Policymaker,
            parameters::list_in,
            List,
            "Parameters of a component in a virtual host",
        ),
        get(ONE, Policymaker, parameters::get, Object, "A parameter"),
        set(ONE, Policymaker, parameters::set, "Set a parameter").body(VALUE),
        delete(ONE, Policymaker, parameters::delete, "Remove a parameter"),
        get("/api/global-parameters", Parameters, parameters::list_global, List, "Parameters of the broker"),
        get("/api/global-parameters/{name}", Parameters, parameters::get_global, Object, "A parameter of the broker"),
        set("/api/global-parameters/{name}", Administrator, parameters::set_global, "Set a parameter of the broker")
            .body(VALUE),
        delete(
            "/api/global-parameters/{name}",
            Administrator,
            parameters::delete_global,
            "Remove a parameter of the broker",
        ),
        get("/api/vhost-limits", Management, parameters::list_vhost_limits, List, "Limits that were imported"),
        get("/api/vhost-limits/{vhost}", Vhost, parameters::get_vhost_limits, List, "Limits that were imported"),
        set("/api/vhost-limits/{vhost}/{name}", Administrator, parameters::set_limit, NOT_SUPPORTED),
        delete(
            "/api/vhost-limits/{vhost}/{name}",
            Administrator,
            parameters::delete_vhost_limit,
            "Forget a limit that was imported",
        ),
        get("/api/user-limits", Management, parameters::list_user_limits, List, "Limits that were imported"),
        get("/api/user-limits/{user}", Management, parameters::list_user_limits, List, "Limits that were imported"),
        set("/api/user-limits/{user}/{name}", Administrator, parameters::set_limit, NOT_SUPPORTED),
        delete(
            "/api/user-limits/{user}/{name}",
            Administrator,
            parameters::delete_user_limit,
            "Forget a limit that was imported",
        ),
    ]
}

fn about_definitions() -> Vec<Endpoint> {
    use Gives::{Imported, Object};
    use Who::Administrator;
    const DOWNLOAD: &[Param] = &[param("download", Kind::Text, "name of the file for a browser to save it as")];
    const LISTS: &[Field] = &[
        may("users", Kind::Objects),
        may("vhosts", Kind::Objects),
        may("permissions", Kind::Objects),
        may("topic_permissions", Kind::Objects),
        may("parameters", Kind::Objects),
        may("global_parameters", Kind::Objects),
        may("policies", Kind::Objects),
        may("queues", Kind::Objects),
        may("exchanges", Kind::Objects),
        may("bindings", Kind::Objects),
    ];
    vec![
        get("/api/definitions", Administrator, definitions::export_all, Object, "All definitions").query(DOWNLOAD),
        post("/api/definitions", Administrator, definitions::import_all, Imported, "Take definitions over").body(LISTS),
        get("/api/definitions/{vhost}", Administrator, definitions::export_vhost, Object, "Those of a virtual host")
            .query(DOWNLOAD),
        post(
            "/api/definitions/{vhost}",
            Administrator,
            definitions::import_vhost,
            Imported,
            "Take definitions over into a virtual host",
        )
        .body(LISTS),
    ]
}

fn about_health() -> Vec<Endpoint> {
    use Who::{Management, Vhost};
    let check = |path, run, summary| get(path, Management, run, Gives::Health, summary);
    vec![
        check("/api/health/checks/alarms", health::check_alarms, "No alarm"),
        check("/api/health/checks/local-alarms", health::check_alarms, "No alarm"),
        check(
            "/api/health/checks/certificate-expiration/{within}/{unit}",
            health::check_certificates,
            "No certificate expires",
        ),
        check("/api/health/checks/port-listener/{port}", health::check_port, "It listens on a port"),
        check("/api/health/checks/protocol-listener/{protocol}", health::check_protocol, "It listens for a protocol"),
        check("/api/health/checks/virtual-hosts", health::check_vhosts, "All virtual hosts run"),
        check("/api/health/checks/node-is-mirror-sync-critical", health::check_copies, "No copy is behind"),
        check("/api/health/checks/node-is-quorum-critical", health::check_copies, "No quorum is at risk"),
        check("/api/health/checks/ready-to-serve-clients", health::check_ready, "Clients are served"),
        check("/api/health/checks/is-in-service", health::check_in_service, "It is not in maintenance"),
        get("/api/aliveness-test/{vhost}", Vhost, health::check_alive, Gives::Health, "A message comes through"),
    ]
}
