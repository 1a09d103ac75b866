//! The dashboard's files, embedded: what `dashboard/` has is what is served, with nothing built or fetched.
//!
//! The pages ask the management API as whoever is logged in, so the files themselves are for everybody. What a browser
//! may do with them is limited by [`POLICY`].

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// Scripts, styles and images of this server alone, requests to it alone, in no frame; and no text becomes markup,
/// even if a script would try.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// A file: where it is below `/`, and what is in it.
struct File {
    path: &'static str,
    content: &'static [u8],
}

macro_rules! files {
    ($($path:literal)*) => {
        &[$(File { path: $path, content: include_bytes!(concat!("../dashboard/", $path)) }),*]
    };
}

const FILES: &[File] = files! {
    "index.html" "style.css" "hare.svg" "theme.js"
    "api.js" "app.js" "arguments.js" "chart.js" "dialog.js" "dom.js" "form.js" "format.js" "graph.js" "keys.js"
    "messages.js" "table.js"
    "pages/alarms.js" "pages/apps.js" "pages/channels.js" "pages/connections.js" "pages/costs.js" "pages/dead.js"
    "pages/definitions.js" "pages/exchanges.js" "pages/overview.js" "pages/policies.js" "pages/queue.js"
    "pages/queues.js" "pages/tail.js" "pages/users.js" "pages/vhosts.js"
    "vendor/uplot.css" "vendor/uplot.js" "vendor/uplot.LICENSE"
};

/// A route for each file; `/` is the page.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let mut router = Router::new();
    for file in FILES {
        let tag = tag(file.content);
        let answer = move |headers: HeaderMap| {
            let answer = answer(file, &tag, &headers);
            async { answer }
        };
        router = router.route(&format!("/{}", file.path), get(answer.clone()));
        if file.path == "index.html" {
            router = router.route("/", get(answer));
        }
    }
    router
}

/// The file, or that the browser has it already. It always asks, so that a new version is seen at once.
fn answer(file: &File, tag: &HeaderValue, headers: &HeaderMap) -> Response {
    let known = headers.get_all(header::IF_NONE_MATCH).iter().any(|known| known == tag);
    let mut response = Response::new(if known { Body::empty() } else { Body::from(file.content) });
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let fixed: [(HeaderName, &str); 6] = [
        (header::CONTENT_TYPE, content_type(file.path)),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response.headers_mut().insert(header::ETAG, tag.clone());
    response
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}

/// A name for the content.
fn tag(content: &[u8]) -> HeaderValue {
    let mut text = String::from("\"");
    for byte in &Sha256::digest(content)[..12] {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.push('"');
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;
    use tower::ServiceExt;

    async fn ask(path: &str, known: &str) -> Response {
        let request = Request::get(path).header(header::IF_NONE_MATCH, known).body(Body::empty()).unwrap();
        routes::<()>().oneshot(request).await.unwrap()
    }

    fn scripts() -> impl Iterator<Item = (&'static str, &'static str)> {
        let own = FILES.iter().filter(|file| file.path.ends_with(".js") && !file.path.starts_with("vendor/"));
        own.map(|file| (file.path, std::str::from_utf8(file.content).unwrap()))
    }

    #[tokio::test]
    async fn a_file_comes_with_its_type_and_policy_and_once() {
        let first = ask("/", "").await;
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(first.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        assert!(first.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().starts_with("default-src 'none'"));
        let tag = first.headers()[header::ETAG].to_str().unwrap();
        assert_eq!(ask("/index.html", tag).await.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(ask("/app.js", tag).await.status(), StatusCode::OK);
        assert_eq!(ask("/nothing.js", "").await.status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn every_file_of_the_directory_is_embedded() {
        fn list(directory: &Path, root: &Path, found: &mut BTreeSet<String>) {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    list(&path, root, found);
                } else {
                    found.insert(path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/"));
                }
            }
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboard");
        let mut found = BTreeSet::new();
        list(&root, &root, &mut found);
        assert_eq!(found, FILES.iter().map(|file| file.path.to_string()).collect());
    }

    /// What is not named there is found by the browser only when it has read the script that imports it.
    #[test]
    fn the_page_names_every_module() {
        let page = std::str::from_utf8(FILES[0].content).unwrap();
        for (path, _) in scripts() {
            assert!(page.contains(&format!("\"{path}\"")), "{path}");
        }
    }

    /// The policy would stop most of this in browsers that know it; it must not be there at all.
    #[test]
    fn no_script_makes_markup_or_code_of_text() {
        let forbidden = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "DOMParser",
            "srcdoc",
            "http://",
            "https://",
        ];
        for (path, text) in scripts() {
            for word in forbidden {
                let namespace = text.replace("http://www.w3.org/2000/svg", "");
                assert!(!namespace.contains(word), "{path} has {word}");
            }
        }
    }
}
