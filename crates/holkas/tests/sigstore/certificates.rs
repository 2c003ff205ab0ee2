//! Certificates that openssl made: Fulcio's, for a moment that a log vouches for, and others, valid now.

use serde_json::{Value, json};

use super::kit::{
    CERTIFICATE, CHAIN, EMAIL, Entry, ISSUER, LONG, NOW, PROMISE, World, accepted, encoded, refused, with,
};
use holkas::signature::SigstoreSignature;

/// Ten minutes of 2025, and a moment within.
const SHORT: (&str, &str) = ("20251201120000Z", "20251201121000Z");
const THEN: i64 = 1_764_590_700;

const SIGNING: &str = "extendedKeyUsage=codeSigning";
const NAMES: &str = "subjectAltName=critical,email:builder@example.org";

fn issuer_v1(issuer: &str) -> String {
    let hex: Vec<_> = issuer.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("1.3.6.1.4.1.57264.1.1=DER:{}", hex.join(":"))
}

fn issuer_v2(issuer: &str) -> String {
    format!("1.3.6.1.4.1.57264.1.8=ASN1:UTF8String:{issuer}")
}

/// A root, an authority between, and a log.
fn world() -> World {
    let world = World::new();
    world.authority("root", None);
    world.authority("between", Some("root"));
    world.usual_key("log");
    world
}

fn fulcio(world: &World, root: &str) -> Value {
    json!({
        "type": "sigstoreSigned",
        "fulcio": {
            "caData": encoded(world.read(&format!("{root}.pem"))),
            "oidcIssuer": ISSUER,
            "subjectEmail": EMAIL,
        },
        "rekorPublicKeyPath": world.path("log.pub"),
    })
}

/// Returns the image, signed by the holder of a certificate, with the authorities above.
fn signed(world: &World, holder: &str) -> SigstoreSignature {
    let signature = with(&world.signed_by(holder), CERTIFICATE, Some(&world.read(&format!("{holder}.pem"))));
    with(&signature, CHAIN, Some(&format!("{}{}", world.read("between.pem"), world.read("root.pem"))))
}

/// Returns a signature with the log's promise that it had it at a time.
fn logged(world: &World, signature: &SigstoreSignature, time: i64) -> SigstoreSignature {
    let entry = Entry::of(&signature.annotations[CERTIFICATE], signature, time);
    with(signature, PROMISE, Some(&entry.promise(world, "log")))
}

#[test]
fn fulcio_vouches_for_an_identity_at_the_time_of_signing() {
    let world = world();
    let requirement = fulcio(&world, "root");
    let (v1, v2) = (issuer_v1(ISSUER), issuer_v2(ISSUER));
    for (name, issuers) in [("v1", vec![&v1]), ("v2", vec![&v2]), ("both", vec![&v1, &v2])] {
        let mut extensions = vec![SIGNING, NAMES, "keyUsage=critical,digitalSignature"];
        extensions.extend(issuers.iter().map(|line| line.as_str()));
        world.certificate(name, Some("between"), SHORT, &extensions);
        accepted(&requirement, &logged(&world, &signed(&world, name), THEN));
    }
    // Several addresses, one of which is the one.
    let names = "subjectAltName=email:a@example.org,DNS:example.org,email:builder@example.org";
    world.certificate("several", Some("between"), SHORT, &[SIGNING, names, &v1]);
    accepted(&requirement, &logged(&world, &signed(&world, "several"), THEN));
    // An authority in between may be trusted itself, and then no chain is needed.
    let direct = with(&signed(&world, "v1"), CHAIN, None);
    accepted(&fulcio(&world, "between"), &logged(&world, &direct, THEN));
    refused(&requirement, &logged(&world, &direct, THEN), "no authority that the policy trusts vouches");
    // Keys of other kinds hold certificates, too.
    world.key("rsa", "-algorithm RSA");
    world.certificate("rsa", Some("between"), SHORT, &[SIGNING, NAMES, &v1]);
    accepted(&requirement, &logged(&world, &signed(&world, "rsa"), THEN));
}

#[test]
fn what_fulcio_does_not_vouch_for_is_refused() {
    let world = world();
    let requirement = fulcio(&world, "root");
    let v1 = issuer_v1(ISSUER);
    world.certificate("leaf", Some("between"), SHORT, &[SIGNING, NAMES, &v1]);
    let good = logged(&world, &signed(&world, "leaf"), THEN);
    accepted(&requirement, &good);

    // The time: before, after, and unknown.
    for (seconds, why) in [(-301, "not valid yet"), (301, "had expired")] {
        refused(&requirement, &logged(&world, &signed(&world, "leaf"), THEN + seconds), why);
    }
    accepted(&requirement, &logged(&world, &signed(&world, "leaf"), THEN - 300));
    accepted(&requirement, &logged(&world, &signed(&world, "leaf"), THEN + 300));
    refused(&requirement, &with(&good, PROMISE, None), "`dev.sigstore.cosign/bundle` is missing");

    // The authority: another one, even of the same name, and one that was not valid.
    world.authority("stranger", None);
    refused(&fulcio(&world, "stranger"), &good, "no authority that the policy trusts vouches");
    let other = World::new();
    other.authority("root", None);
    let mut namesake = fulcio(&other, "root");
    namesake["rekorPublicKeyPath"] = requirement["rekorPublicKeyPath"].clone();
    refused(&namesake, &good, "not signed by the authority that it names");
    world.certificate("old", None, ("20200101000000Z", "20250101000000Z"), &["basicConstraints=critical,CA:TRUE"]);
    world.certificate("of-old", Some("old"), SHORT, &[SIGNING, NAMES, &v1]);
    refused(&fulcio(&world, "old"), &logged(&world, &signed(&world, "of-old"), THEN), "no authority that the policy");
    refused(&fulcio(&world, "leaf"), &good, "it does not let its holder sign certificates");

    // The certificate: another's, another key's, none, two.
    world.certificate("second", Some("between"), SHORT, &[SIGNING, NAMES, &v1]);
    let second = world.read("second.pem");
    refused(&requirement, &with(&good, CERTIFICATE, Some(&second)), "another key or certificate");
    let borrowed = with(&signed(&world, "leaf"), CERTIFICATE, Some(&second));
    refused(&requirement, &logged(&world, &borrowed, THEN), "the signature was not made by this");
    for wrong in ["", "nothing", &format!("{second}{second}")] {
        refused(&requirement, &with(&good, CERTIFICATE, Some(wrong)), "certificate");
    }
    for wrong in ["nothing", &world.read("log.pub")] {
        refused(&requirement, &with(&good, CHAIN, Some(wrong)), "reading the chain of certificates");
    }

    // What the certificate says.
    let (other, v2) = (issuer_v1("https://other.example"), issuer_v2("https://other.example"));
    let unknown = "1.2.3.4=critical,DER:05:00";
    let cases: [(&str, &[&str], &str); 9] = [
        ("no-issuer", &[SIGNING, NAMES], "does not name an OIDC issuer"),
        ("other-issuer", &[SIGNING, NAMES, &other], "proven to `https://other.example`"),
        ("two-issuers", &[SIGNING, NAMES, &v1, &v2], "names two OIDC issuers"),
        ("trailing", &[SIGNING, NAMES, "1.3.6.1.4.1.57264.1.8=DER:0c:01:61:00"], "bytes follow"),
        ("no-email", &[SIGNING, &v1], "for no e-mail address"),
        ("other-email", &[SIGNING, "subjectAltName=email:builder@example.com", &v1], "not for `builder@example.org`"),
        ("as-dns", &[SIGNING, "subjectAltName=DNS:builder@example.org", &v1], "not for `builder@example.org`"),
        ("server", &["extendedKeyUsage=serverAuth", NAMES, &v1], "not for signing code"),
        ("unknown", &[SIGNING, NAMES, &v1, unknown], "critical extension that is not understood"),
    ];
    for (name, extensions, why) in cases {
        world.certificate(name, Some("between"), SHORT, extensions);
        refused(&requirement, &logged(&world, &signed(&world, name), THEN), why);
    }
    world.certificate("authority", Some("between"), SHORT, &[SIGNING, NAMES, &v1, "basicConstraints=CA:TRUE"]);
    refused(&requirement, &logged(&world, &signed(&world, "authority"), THEN), "signs certificates alone");
}

#[test]
fn whoever_may_not_sign_certificates_signs_none() {
    let world = world();
    let requirement = fulcio(&world, "root");
    let v1 = issuer_v1(ISSUER);
    let authorities: [(&str, &[&str], &str); 4] = [
        ("plain", &["keyUsage=digitalSignature"], "may not sign any"),
        ("usage", &["basicConstraints=critical,CA:TRUE", "keyUsage=digitalSignature"], "may not sign any"),
        ("purpose", &["basicConstraints=critical,CA:TRUE", "extendedKeyUsage=serverAuth"], "not for signing code"),
        ("expired", &["basicConstraints=critical,CA:TRUE"], "had expired"),
    ];
    for (name, extensions, why) in authorities {
        let validity = if name == "expired" { ("20200101000000Z", "20250101000000Z") } else { LONG };
        world.certificate(name, Some("root"), validity, extensions);
        let holder = format!("of-{name}");
        world.certificate(&holder, Some(name), SHORT, &[SIGNING, NAMES, &v1]);
        let chain = format!("{}{}", world.read(&format!("{name}.pem")), world.read("root.pem"));
        let signature = with(&signed(&world, &holder), CHAIN, Some(&chain));
        refused(&requirement, &logged(&world, &signature, THEN), why);
    }
    // As the policy's own they are refused as well, where the policy is read.
    for name in ["plain", "usage"] {
        let signature = logged(&world, &signed(&world, &format!("of-{name}")), THEN);
        refused(&fulcio(&world, name), &signature, "it does not let its holder sign certificates");
    }
    // A chain that leads to nowhere, of many.
    let long = world.read("between.pem").repeat(500);
    world.authority("elsewhere", None);
    world.certificate("lost", Some("elsewhere"), SHORT, &[SIGNING, NAMES, &v1]);
    let signature = with(&signed(&world, "lost"), CHAIN, Some(&long));
    refused(&requirement, &logged(&world, &signature, THEN), "verifying the signer's certificate");
}

fn pki(world: &World, more: Value) -> Value {
    let mut pki = more;
    pki["caRootsPath"] = world.path("root.pem").display().to_string().into();
    json!({ "type": "sigstoreSigned", "pki": pki })
}

#[test]
fn other_authorities_vouch_for_who_holds_a_certificate_now() {
    let world = world();
    let names = "subjectAltName=email:builder@example.org,DNS:build.example.org,DNS:*.farm.example.org,IP:192.0.2.7";
    world.certificate("leaf", Some("between"), LONG, &[SIGNING, names]);
    let good = signed(&world, "leaf");
    let email = pki(&world, json!({ "subjectEmail": EMAIL }));
    accepted(&email, &good);
    for host in ["build.example.org", "BUILD.example.org", "one.farm.example.org", "192.0.2.7", "[192.0.2.7]"] {
        accepted(&pki(&world, json!({ "subjectHostname": host })), &good);
    }
    accepted(&pki(&world, json!({ "subjectEmail": EMAIL, "subjectHostname": "build.example.org" })), &good);

    for host in ["example.org", "other.example.org", "a.b.farm.example.org", "farm.example.org", "192.0.2.8", "a b"] {
        refused(&pki(&world, json!({ "subjectHostname": host })), &good, "the host `");
        let both = pki(&world, json!({ "subjectEmail": EMAIL, "subjectHostname": host }));
        refused(&both, &good, "the host `");
    }
    let both = pki(&world, json!({ "subjectEmail": "x@y.example", "subjectHostname": "build.example.org" }));
    refused(&both, &good, "not for `x@y.example`");
    refused(&pki(&world, json!({ "subjectEmail": "BUILDER@example.org" })), &good, "not for `BUILDER@example.org`");

    // Without a chain, the policy's own certificates fill the gap; the last of a chain never counts.
    let bare = with(&good, CHAIN, None);
    refused(&email, &bare, "no authority that the policy trusts vouches");
    refused(
        &email,
        &with(&good, CHAIN, Some(&world.read("between.pem"))),
        "no authority that the policy trusts vouches",
    );
    let between = encoded(world.read("between.pem"));
    accepted(&pki(&world, json!({ "subjectEmail": EMAIL, "caIntermediatesData": between })), &bare);
    refused(&email, &with(&good, CERTIFICATE, None), "`dev.sigstore.cosign/certificate` is missing");

    // The time is now, whatever a log says.
    const { assert!(THEN < NOW) };
    world.certificate("short", Some("between"), SHORT, &[SIGNING, names]);
    refused(&email, &logged(&world, &signed(&world, "short"), THEN), "had expired");
    world.certificate("server", Some("between"), LONG, &["extendedKeyUsage=serverAuth", names]);
    refused(&email, &signed(&world, "server"), "not for signing code");
    // As everywhere else, no extended usage at all is any.
    world.certificate("any", Some("between"), LONG, &[names]);
    accepted(&email, &signed(&world, "any"));
}
