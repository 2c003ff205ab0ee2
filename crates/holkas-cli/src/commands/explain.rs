//! `holkas explain NAME`

use holkas::error::{Error, Result};
use holkas::fs::display;
use holkas::reference::{DockerReference, ImageReference, Name};
use holkas::registry::auth::{self, AuthFiles, AuthKey};
use holkas::registry::certificates::{CertificatePlaces, Certificates};
use holkas::registry::conf::{Candidate, EndpointKind, Plan, Purpose, RegistriesConf};
use holkas::registry::registries_d::{Lookaside, RegistriesD, Said, Use};
use serde_json::{Value, json};

use super::Setting;
use crate::table::table;
use crate::{cli, environment, output};

/// One place that the name leads to, as it is shown.
struct Place<'a> {
    candidate: &'a Candidate,
    url: String,
    /// `None` if the place is not asked.
    certificates: Option<Certificates>,
    /// Which entry of which file, or which credential helper, would speak for us.
    credentials: Option<String>,
    /// `None` if the place is not asked.
    signatures: Option<SignaturePlaces>,
}

/// Where signatures of an image are, as far as registries.d says it.
struct SignaturePlaces {
    read: Option<Lookaside>,
    written: Option<Lookaside>,
    /// Whether there may be sigstore's beside the image, and who says so.
    attachments: (bool, Option<Said>),
}

/// Prints what becomes of the name; nothing is asked of any host.
pub(crate) fn run(arguments: &cli::Explain, setting: &Setting<'_>) -> Result<()> {
    let reference = reference(&arguments.name)?;
    let purpose = match arguments.purpose {
        cli::Purpose::Pull => Purpose::Pull,
        cli::Purpose::Push => Purpose::Push,
        cli::Purpose::List => Purpose::List,
    };
    let conf = setting.registries()?;
    let plan = conf.plan(reference.name(), purpose)?;
    let certs = environment::certificate_places(arguments.cert_dir.as_deref());
    let auth = environment::auth_files(arguments.authfile.as_deref(), conf.credential_helpers.clone());
    let registries_d = setting.registries_d()?;
    let places = plan.candidates.iter().map(|candidate| place(candidate, &certs, &auth, &registries_d));
    let places = places.collect::<Result<Vec<_>>>()?;
    match arguments.json {
        true => output::json(&json(reference.name(), &conf, &plan, &registries_d, &places)),
        false => output::write(text(reference.name(), &conf, &plan, &registries_d, &places).as_bytes()),
    }
}

fn reference(text: &str) -> Result<DockerReference> {
    if !text.starts_with("docker:") {
        return DockerReference::named(Name::parse_normalised(text)?);
    }
    match ImageReference::parse(text)? {
        ImageReference::Docker(reference) => Ok(reference),
        other => Err(Error::invalid(format!("{other} is not in a registry"))),
    }
}

fn place<'a>(
    candidate: &'a Candidate,
    certs: &CertificatePlaces,
    auth: &AuthFiles,
    registries_d: &RegistriesD,
) -> Result<Place<'a>> {
    let endpoint = &candidate.endpoint;
    let certificates = match candidate.skipped {
        None => Some(certs.read(endpoint.host())?),
        Some(_) => None,
    };
    let url = format!("https://{}/v2/{}", endpoint.authority(), endpoint.path());
    let found = match candidate.skipped {
        None => Some(auth.find(&AuthKey::from(&endpoint.name))?),
        Some(_) => None,
    };
    let credentials = found.filter(|found| found.place != auth::Place::Nowhere).map(|found| found.place.to_string());
    let signatures = match candidate.skipped {
        None => Some(SignaturePlaces::of(registries_d, &endpoint.name)?),
        Some(_) => None,
    };
    Ok(Place { candidate, url, certificates, credentials, signatures })
}

impl SignaturePlaces {
    fn of(registries_d: &RegistriesD, name: &Name) -> Result<Self> {
        let (wanted, said) = registries_d.attachments(name);
        Ok(Self {
            read: registries_d.lookaside(name, Use::Read)?,
            written: registries_d.lookaside(name, Use::Write)?,
            attachments: (wanted, said.cloned()),
        })
    }

    /// Returns one line for each: what, where, and who says so.
    fn lines(&self, name: &Name) -> Vec<String> {
        let by = |said: Option<&Said>| match said {
            Some(said) => format!("`{}` in {said}", said.key),
            None => "no file says otherwise".to_string(),
        };
        let place = |lookaside: &Option<Lookaside>| match lookaside {
            Some(Lookaside { base, said }) => format!("{base} ({})", by(said.as_ref())),
            None => format!("nowhere ({})", by(None)),
        };
        let (wanted, said) = &self.attachments;
        let wanted = if *wanted { "looked for beside it" } else { "not looked for beside it" };
        vec![
            format!("{name} is read from {}", place(&self.read)),
            format!("{name} is written to {}", place(&self.written)),
            format!("{name}: sigstore's are {wanted} ({})", by(said.as_ref())),
        ]
    }

    fn json(&self) -> Value {
        let place = |lookaside: &Option<Lookaside>| {
            let Some(Lookaside { base, said }) = lookaside else { return Value::Null };
            json!({ "url": base.to_string(), "by": said.as_ref().map(by_json) })
        };
        let (wanted, said) = &self.attachments;
        json!({
            "read": place(&self.read),
            "written": place(&self.written),
            "sigstore_attachments": { "wanted": wanted, "by": said.as_ref().map(by_json) },
        })
    }
}

fn by_json(said: &Said) -> Value {
    json!({ "key": said.key, "file": display(&said.file), "line": said.line })
}

impl Place<'_> {
    fn kind(&self) -> &'static str {
        match self.candidate.endpoint.kind {
            EndpointKind::Mirror => "mirror",
            EndpointKind::Primary => "primary",
        }
    }

    fn why_skipped(&self) -> Option<String> {
        self.candidate.skipped.as_ref().map(|why| why.error().to_string())
    }
}

fn json(name: &Name, conf: &RegistriesConf, plan: &Plan, registries_d: &RegistriesD, places: &[Place<'_>]) -> Value {
    let matched = plan
        .matched
        .as_ref()
        .map(|matched| json!({ "prefix": matched.prefix, "file": display(&matched.file), "line": matched.line }));
    let places = places.iter().map(|place| {
        let certificates = place.certificates.as_ref().map(|certificates| {
            json!({
                "dir": certificates.dir.as_deref().map(display),
                "authorities": certificates.authorities.len(),
                "client_certificates": certificates.identities.iter().map(|own| display(&own.file)).collect::<Vec<_>>(),
            })
        });
        json!({
            "kind": place.kind(),
            "name": place.candidate.endpoint.name.to_string(),
            "url": place.url,
            "insecure": place.candidate.endpoint.insecure,
            "skipped": place.why_skipped(),
            "certificates": certificates,
            "credentials": place.credentials,
            "signatures": place.signatures.as_ref().map(SignaturePlaces::json),
        })
    });
    let unknown_keys = [&conf.unknown_keys[..], &registries_d.unknown_keys].concat();
    json!({
        "name": name.to_string(),
        "files": conf.files.iter().map(|file| display(file)).collect::<Vec<_>>(),
        "signature_files": registries_d.files.iter().map(|file| display(file)).collect::<Vec<_>>(),
        "unknown_keys": unknown_keys,
        "matched": matched,
        "credential_helpers": conf.credential_helpers,
        "places": places.collect::<Vec<_>>(),
    })
}

fn text(name: &Name, conf: &RegistriesConf, plan: &Plan, registries_d: &RegistriesD, places: &[Place<'_>]) -> String {
    let files = conf.files.iter().chain(&registries_d.files).map(|file| display(file)).collect();
    let matched = plan.matched.as_ref().map_or("no [[registry]]".to_string(), |matched| {
        format!(
            "prefix {} in {}:{}",
            holkas::error::printable(matched.prefix.as_bytes()),
            display(&matched.file),
            matched.line
        )
    });
    let mut text = String::new();
    text += &named("name", &[name.to_string()]);
    text += &named("files read", &or_none(files));
    text += &named("matched", &[matched]);
    text += &named("unknown keys", &[&conf.unknown_keys[..], &registries_d.unknown_keys].concat());
    text += &named("helpers", &conf.credential_helpers);
    let signatures = |place: &Place<'_>| {
        place.signatures.as_ref().map(|signatures| signatures.lines(&place.candidate.endpoint.name))
    };
    text += &named("signatures", &places.iter().filter_map(signatures).flatten().collect::<Vec<_>>());
    text.push('\n');
    let mut order = 0;
    let rows: Vec<_> = places
        .iter()
        .map(|place| {
            let number = match place.candidate.skipped {
                Some(_) => "-".to_string(),
                None => {
                    order += 1;
                    order.to_string()
                }
            };
            let tls = if place.candidate.endpoint.insecure { "insecure" } else { "verified" };
            let certificates = place.certificates.as_ref().and_then(|certificates| certificates.dir.as_deref());
            [
                number,
                place.kind().to_string(),
                place.url.clone(),
                tls.to_string(),
                certificates.map_or("-".to_string(), display),
                place.credentials.clone().unwrap_or_else(|| "-".to_string()),
                place.why_skipped().unwrap_or_default(),
            ]
        })
        .collect();
    text += &table(["ORDER", "KIND", "URL", "TLS", "CERTIFICATES", "CREDENTIALS", "NOT ASKED BECAUSE"], &rows);
    text
}

fn or_none(mut values: Vec<String>) -> Vec<String> {
    if values.is_empty() {
        values.push("none".to_string());
    }
    values
}

/// Returns lines with a name before the first.
fn named(name: &str, values: &[String]) -> String {
    let names = std::iter::once(name).chain(std::iter::repeat(""));
    names.zip(values).map(|(name, value)| format!("{name:<14}{value}\n")).collect()
}
