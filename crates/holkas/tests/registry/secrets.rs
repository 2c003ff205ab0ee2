//! Who we are is said to whom it is for, and to nobody else; who they are must be proven.

use std::sync::Arc;

use holkas::ErrorKind;
use holkas::copy::MultiArch;
use holkas::registry::auth::{Credentials, Secret};
use holkas::registry::certificates::CertificatePlaces;
use holkas::registry::{Login, Settings};
use holkas_testkit::registry::{Auth, Bearer, Fault, Matcher, Registry, Tls};

use super::common::{configured, copy_by, fails, fetch, image, settings};

fn anna(password: &str) -> Login {
    Login::As(Credentials::Basic { user: "anna".into(), password: Secret::new(password) })
}

fn with(login: Login) -> Settings {
    Settings { login, ..settings() }
}

#[test]
fn basic_and_bearer_and_identity_tokens_open_the_door() {
    let registry = Registry::builder().auth(Auth::basic("anna", "se:cret")).start();
    registry.put_image(&image(), "app", "1");
    let reference = registry.reference("app:1");
    fetch(with(anna("se:cret")), &reference, &image()).unwrap();
    for login in [Login::As(Credentials::Anonymous), anna("wrong")] {
        registry.reset_log();
        let error = fails(with(login), &reference);
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
        assert!(registry.log().len() <= 3, "it was asked again and again: {:?}", registry.log());
        assert!(!error.to_string().contains("wrong"), "{error}");
    }

    let service = Bearer::user("anna", "secret").refresh_token("refreshed", "anna").or_anonymous();
    let registry = Registry::builder().auth(Auth::Bearer(service)).start();
    registry.put_image(&image(), "app", "1");
    let reference = registry.reference("app:1");
    fetch(settings(), &reference, &image()).unwrap();
    assert_eq!(registry.token_requests(), 1, "one token is enough for all of one repository");
    let to = registry.reference("copy:1");
    for login in [anna("secret"), Login::As(Credentials::IdentityToken(Secret::new("refreshed")))] {
        copy_by(with(login), &reference, &to, MultiArch::System).unwrap();
    }
    let error = copy_by(settings(), &reference, &to, MultiArch::System).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unauthorized | ErrorKind::Forbidden), "{error}");
}

#[test]
fn a_token_that_ends_on_the_way_is_renewed() {
    let registry = Registry::builder().auth(Auth::Bearer(Bearer::anonymous())).start();
    registry.put_image(&image(), "app", "1");
    registry.on(Matcher::get("*/blobs/*").first(1), Fault::status(401));
    let challenge = format!("Bearer realm=\"{}/token\",service=\"registry.test\"", registry.url());
    registry.clear_faults();
    registry.on(Matcher::get("*/blobs/*").first(1), Fault::answer(401, &[("WWW-Authenticate", &challenge)], ""));
    fetch(settings(), &registry.reference("app:1"), &image()).unwrap();
    assert_eq!(registry.token_requests(), 2);
}

#[test]
fn credentials_stay_with_their_registry() {
    let elsewhere = Registry::start();
    elsewhere.put_image(&image(), "app", "1");
    let registry = Registry::builder().auth(Auth::basic("anna", "secret")).start();
    registry.put_image(&image(), "app", "1");
    registry.on(Matcher::get("*/blobs/*"), Fault::redirect(307, &format!("{}/{{target}}", elsewhere.url())));
    fetch(with(anna("secret")), &registry.reference("app:1"), &image()).unwrap();
    assert!(elsewhere.log().len() >= 3);
    assert!(elsewhere.log().iter().all(|one| one.authorization().is_none()));
}

#[test]
fn token_services_must_be_as_safe_as_their_registry() {
    let thief = Registry::builder().auth(Auth::Bearer(Bearer::user("anna", "secret"))).start();
    let bearer = Bearer::user("anna", "secret").realm(format!("{}/token", thief.url()));
    let registry = Registry::builder().auth(Auth::Bearer(bearer)).tls(Tls::Private).start();
    registry.put_image(&image(), "app", "1");
    let trusting = Settings {
        tls_verify: None,
        certificates: CertificatePlaces::One(registry.certificates().dir()),
        ..with(anna("secret"))
    };
    let error = fails(trusting, &registry.reference("app:1"));
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert_eq!(thief.log().len(), 0, "not a byte was sent in the open");
}

#[test]
fn who_a_registry_is_must_be_proven() {
    for (tls, said) in [
        (Tls::SelfSigned, "not trusted"),
        (Tls::Expired, "it has expired"),
        (Tls::OtherName, "for another name"),
        (Tls::Private, "its issuer is unknown"),
        (Tls::SelfSignedAuthority, "it is an authority's, and not trusted itself"),
    ] {
        let registry = Registry::start_tls(tls);
        registry.put_image(&image(), "app", "1");
        let reference = registry.reference("app:1");
        let certificates = match tls {
            Tls::Private | Tls::SelfSignedAuthority => CertificatePlaces::PerHost(Vec::new()),
            _ => CertificatePlaces::One(registry.certificates().dir()),
        };
        let strict = Settings { tls_verify: None, certificates, ..settings() };
        let error = fails(strict, &reference);
        assert_eq!(error.kind(), ErrorKind::Refused, "{tls:?}: {error}");
        assert!(error.to_string().contains(said), "{tls:?}: {error}");
        fetch(settings(), &reference, &image()).unwrap();
    }
    // skopeo takes an authority's certificate, too, if it is the server's own and trusted.
    for tls in [Tls::Private, Tls::ClientCertificate, Tls::SelfSignedAuthority] {
        let registry = Registry::start_tls(tls);
        registry.put_image(&image(), "app", "1");
        let certificates = CertificatePlaces::One(registry.certificates().dir());
        let strict = Settings { tls_verify: None, certificates, ..settings() };
        fetch(strict, &registry.reference("app:1"), &image()).unwrap();
    }
}

#[test]
fn plain_http_is_for_registries_of_which_it_was_said() {
    let (plain, other) = (Registry::start(), Registry::start());
    for registry in [&plain, &other] {
        registry.put_image(&image(), "app", "1");
    }
    let conf = format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", plain.host());
    fetch(configured(&conf), &plain.reference("app:1"), &image()).unwrap();
    let error = fails(configured(&conf), &other.reference("app:1"));
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.hint_text().is_some_and(|hint| hint.contains("insecure")), "{error}");
    assert_eq!(other.log().len(), 0);
    let strict = Settings { tls_verify: Some(true), ..configured(&conf) };
    fails(strict, &plain.reference("app:1"));
}

#[test]
fn what_is_trusted_without_proof_is_one_host_alone() {
    // The registry is not verified by the user's word; where it sends us to is.
    let content = Registry::start_tls(Tls::SelfSigned);
    content.put_image(&image(), "app", "1");
    let registry = Registry::start();
    registry.put_image(&image(), "app", "1");
    let elsewhere = format!("https://localhost:{}/{{target}}", content.host().rsplit(':').next().unwrap());
    registry.on(Matcher::get("*/blobs/*"), Fault::redirect(307, &elsewhere));
    let error = fails(settings(), &registry.reference("app:1"));
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
}

#[test]
fn secrets_are_in_no_message() {
    let settings = Settings { monitor: Arc::new(holkas::progress::Silent), ..with(anna("hunter2")) };
    assert!(!format!("{settings:?} {:?}", settings.login).contains("hunter2"));
}
