//! registries.conf by skopeo and by us: the same files and names, and the same hosts.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::net::TcpListener;

use holkas::reference::Name;
use holkas::registry::conf::{Candidate, ConfFile, Purpose, RegistriesConf, Skipped};
use holkas_testkit::peers::Peer;

const DIGEST: &str = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Returns a port of the loopback that nobody listens on.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port()
}

/// Returns what skopeo tells of the hosts that it could not reach, in the order in which it asked them, with `!` behind
/// those that it asked without TLS; or that the name was refused or could not be rewritten.
fn asked(errors: &str) -> String {
    let hosts: Vec<_> = errors
        .split("pinging container registry ")
        .skip(1)
        .map(|rest| {
            let host = rest.split(": ").next().unwrap_or_default();
            format!(
                "{host}{}",
                if rest.contains("Get \\\"http://") && !rest.contains("Get \\\"https://") { "!" } else { "" }
            )
        })
        .collect();
    let blocked = errors.contains(" is blocked in ");
    let rewriting = errors.contains("rewriting reference: ");
    format!("{}{}{}", hosts.join(" "), if blocked { " blocked" } else { "" }, if rewriting { "rewriting" } else { "" })
}

/// The same configuration and names, by skopeo and by us. Nobody listens, so that skopeo tells whom it asked.
#[test]
fn skopeo_asks_the_same_hosts() {
    let temp = tempfile::tempdir().expect("a directory");
    let drop_in_dir = temp.path().join(".config/containers/registries.conf.d");
    std::fs::create_dir_all(&drop_in_dir).expect("a directory");
    let port = closed_port();
    let host = |n: u8| format!("127.0.0.{n}:{port}");
    let [one, two, three, four] = [1, 2, 3, 4].map(host);
    let mirrors = format!(
        "[[registry]]\nprefix='{one}/foo'\nlocation='{two}/bar'\ninsecure=true\n[[registry.mirror]]\nlocation='{three}/m'\n\
         pull-from-mirror='KIND'\n[[registry.mirror]]\nlocation='{four}'\ninsecure=true\n"
    );
    let files = [
        (String::new(), String::new()),
        ("nonsense = 1\n[what]\nx = 1\n".to_string(), String::new()),
        (mirrors.replace("KIND", "all"), String::new()),
        (mirrors.replace("KIND", "digest-only"), String::new()),
        (mirrors.replace("KIND", "tag-only"), String::new()),
        (
            mirrors
                .replace("pull-from-mirror='KIND'", "")
                .replace("insecure=true\n[[", "mirror-by-digest-only=true\n[["),
            String::new(),
        ),
        (mirrors.replace("KIND", "all"), format!("[[registry]]\nprefix='{one}/foo'\nlocation='{four}'\n")),
        (format!("[[registry]]\nlocation='{one}'\nblocked=true\n"), String::new()),
        (format!("[[registry]]\nLocation='{one}'\nBlocked=true\n"), String::new()),
        (
            format!(
                "[[registry]]\nlocation='{one}'\nblocked=true\n[[registry.mirror]]\nlocation='{two}'\n[[registry.mirror]]\nlocation='{one}/m'\n"
            ),
            String::new(),
        ),
        (String::new(), format!("[[registry]]\nlocation='{one}/foo'\nblocked=true\n")),
        (
            format!("[[registry]]\nprefix='{one}'\nlocation='{two}/a'\n[[registry]]\nlocation='{two}'\nblocked=true\n"),
            String::new(),
        ),
        ("[[registry]]\nprefix='127.0.0.1'\nlocation='127.0.0.2'\ninsecure=true\n".to_string(), String::new()),
        ("[[registry]]\nprefix='*.0.0.1'\nlocation='127.0.0.3'\n".to_string(), String::new()),
        (
            "[[registry]]\nprefix='*.0.0.1'\ninsecure=true\n[[registry.mirror]]\nlocation='127.0.0.2'\n".to_string(),
            String::new(),
        ),
        (format!("[[registry]]\nprefix='{one}/foo'\nlocation='nohost'\n"), String::new()),
        (
            format!(
                "[[registry]]\nprefix='{one}/foo'\nlocation='{two}/bar/'\n[[registry]]\nprefix='{one}/foo/x'\nlocation='{three}/y'\n"
            ),
            String::new(),
        ),
        (
            format!("[registries.insecure]\nregistries=['{one}']\n[registries.block]\nregistries=['{one}/foobar']\n"),
            String::new(),
        ),
    ];
    let names =
        [format!("{one}/foo/x:1"), format!("{one}/foo/x{DIGEST}"), format!("{one}/foobar/x:1"), format!("{one}/foo:1")];
    for (main, drop_in) in &files {
        let main_file = temp.path().join("registries.conf");
        let drop_in_file = drop_in_dir.join("x.conf");
        std::fs::write(&main_file, main).expect("a file");
        std::fs::write(&drop_in_file, drop_in).expect("a file");
        let conf_file = |path: &str, text: &str| ConfFile { path: path.into(), bytes: text.as_bytes().to_vec() };
        let drop_ins = [conf_file("/d/x.conf", drop_in)];
        let conf = RegistriesConf::parse(Some(&conf_file("/registries.conf", main)), &drop_ins).expect(main);
        let skopeo = Peer::skopeo().environment("HOME", temp.path()).argument("--registries-conf").argument(&main_file);
        for text in &names {
            let name = &Name::parse_normalised(text).expect(text);
            let ours = |purpose| match conf.plan(name, purpose) {
                Err(_) => "rewriting".to_string(),
                Ok(plan) => {
                    let asked = plan.candidates.iter().filter(|candidate| candidate.skipped.is_none());
                    let hosts = asked.map(|candidate| {
                        let endpoint = &candidate.endpoint;
                        format!("{}{}", endpoint.authority(), if endpoint.insecure { "!" } else { "" })
                    });
                    let hosts = hosts.collect::<Vec<_>>().join(" ");
                    let is_blocked = |candidate: &Candidate| matches!(candidate.skipped, Some(Skipped::Blocked(_)));
                    format!("{hosts}{}", if plan.candidates.iter().any(is_blocked) { " blocked" } else { "" })
                }
            };
            let reference = format!("docker://{text}");
            let theirs = skopeo.run(["inspect", &reference]).errors();
            assert_eq!(ours(Purpose::Pull), asked(&theirs), "inspect {text} by\n{main}\nand\n{drop_in}\n{theirs}");
            for endpoint in conf.endpoints(name, Purpose::Pull).unwrap_or_default() {
                let told = format!("{}: pinging", endpoint.name);
                assert!(!theirs.contains("Mirrors also failed") || theirs.contains(&told), "{told}: {theirs}");
            }
            let theirs = skopeo.run(["delete", &reference]).errors();
            assert_eq!(ours(Purpose::Push), asked(&theirs), "delete {text} by\n{main}\nand\n{drop_in}\n{theirs}");
            if !text.contains('@') {
                let repository = reference.rsplit_once(':').expect("a tag").0;
                let theirs = skopeo.run(["list-tags", repository]).errors();
                assert_eq!(
                    ours(Purpose::List),
                    asked(&theirs),
                    "list-tags {text} by\n{main}\nand\n{drop_in}\n{theirs}"
                );
            }
        }
    }
}
