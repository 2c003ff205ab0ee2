//! Private keys as cosign keeps them, under a passphrase, and what signs with them.
//!
//! The file is PEM around JSON: scrypt makes a key of the passphrase, and NaCl's secretbox keeps a PKCS#8 document:
//!
//! ```json
//! {"kdf":{"name":"scrypt","params":{"N":65536,"r":8,"p":1},"salt":"…"},
//!  "cipher":{"name":"nacl/secretbox","nonce":"…"},
//!  "ciphertext":"…"}
//! ```

use std::fmt;

use ::base64::Engine;
use ::base64::engine::general_purpose::STANDARD;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P521_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RsaKeyPair,
};
use poly1305::Poly1305;
use poly1305::universal_hash::KeyInit;
use salsa20::XSalsa20;
use salsa20::cipher::{KeyIvInit, StreamCipher};
use serde_json::{Value, json};

use super::der::{INTEGER, OBJECT_IDENTIFIER, Reader, SEQUENCE};
use super::payload::{Payload, exactly, text};
use super::public_key::{EDWARDS, ELLIPTIC, P256, P521, PublicKey, RSA};
use super::{PAYLOAD_TYPE, SIGNATURE, base64, pem};
use crate::error::{Context, Error, Result, printable};
use crate::oci::{Digest, json as strict};
use crate::reference::Name;
use crate::signature::{Signer, SigstoreSignature, UntrustedSignature};

/// What the PEM block of an encrypted key is called, now and until 2023.
const LABEL: &str = "ENCRYPTED SIGSTORE PRIVATE KEY";
const OLD_LABEL: &str = "ENCRYPTED COSIGN PRIVATE KEY";

/// The cost of scrypt, as a power of two: what is written, and all that is ever used.
const COST: u8 = 16;
const COSTS: [u8; 3] = [15, COST, 17];
const SALT: usize = 32;
const NONCE: usize = 24;
const TAG: usize = 16;

/// A private key.
pub struct PrivateKey(Pair);

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
    Ed25519(Ed25519KeyPair),
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

fn no_random<E>(_: E) -> Error {
    Error::new(crate::error::ErrorKind::Io, "the system has no random numbers")
}

impl PrivateKey {
    /// Makes a new key, on the curve P-256: the only kind that all of cosign's world must understand.
    ///
    /// Returns its PKCS#8 document, encrypted with the passphrase, as the file of a private key.
    pub fn generate(passphrase: &[u8]) -> Result<(Self, String)> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
            .map_err(no_random)
            .context(|| "making a key")?;
        let file = encrypt(document.as_ref(), passphrase)?;
        Ok((Self::from_pkcs8(document.as_ref())?, file))
    }

    /// Reads the file of a private key.
    ///
    /// # Errors
    ///
    /// `Unauthorized` if it is not the passphrase, `Invalid` if the file is damaged, and `Unsupported` if the key is
    /// of a kind that this version cannot sign with.
    pub fn from_file(file: &[u8], passphrase: &[u8]) -> Result<Self> {
        let frame = || "reading a private key";
        let block = pem::only_block(file, "private key").context(frame)?;
        if ![LABEL, OLD_LABEL].contains(&block.label) {
            let label = printable(block.label.as_bytes());
            return Err(Error::invalid(format!("it is a `{label}`, not an `{LABEL}`"))
                .hint("`cosign import-key-pair` makes an encrypted key of a plain one")
                .context(frame()));
        }
        decrypt(&block.der, passphrase).and_then(|document| Self::from_pkcs8(&document)).context(frame)
    }

    fn from_pkcs8(document: &[u8]) -> Result<Self> {
        let mut all = Reader::new(document);
        let mut fields = all.enter(SEQUENCE)?;
        all.end()?;
        fields.expect(INTEGER)?;
        let mut algorithm = fields.enter(SEQUENCE)?;
        let identifier = algorithm.expect(OBJECT_IDENTIFIER)?.contents;
        let curve = match algorithm.is_at_end() {
            true => &[][..],
            false => algorithm.element()?.whole,
        };
        let unusable =
            |error: aws_lc_rs::error::KeyRejected| Error::invalid(format!("the key cannot be used: {error}"));
        let elliptic = |algorithm| EcdsaKeyPair::from_pkcs8(algorithm, document).map(Pair::Ecdsa).map_err(unusable);
        Ok(Self(match (identifier, curve) {
            (ELLIPTIC, P256) => elliptic(&ECDSA_P256_SHA256_ASN1_SIGNING)?,
            (ELLIPTIC, P521) => elliptic(&ECDSA_P521_SHA256_ASN1_SIGNING)?,
            (RSA, _) => Pair::Rsa(Box::new(RsaKeyPair::from_pkcs8(document).map_err(unusable)?)),
            (EDWARDS, _) => Pair::Ed25519(Ed25519KeyPair::from_pkcs8_maybe_unchecked(document).map_err(unusable)?),
            _ => {
                return Err(Error::unsupported("this version cannot sign with keys of this kind")
                    .hint("what it can sign with: ECDSA on P-256 or P-521, RSA, Ed25519"));
            }
        }))
    }

    /// Returns the public key, as the file that a policy names.
    pub fn public_key(&self) -> Result<(PublicKey, String)> {
        let der: PublicKeyX509Der<'_> = match &self.0 {
            Pair::Ecdsa(pair) => pair.public_key().as_der(),
            Pair::Rsa(pair) => pair.public_key().as_der(),
            Pair::Ed25519(pair) => pair.public_key().as_der(),
        }
        .map_err(|error| Error::invalid(format!("the key has no public key: {error}")))?;
        Ok((PublicKey::from_info(der.as_ref())?, pem::write("PUBLIC KEY", der.as_ref())))
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let random = SystemRandom::new();
        match &self.0 {
            Pair::Ecdsa(pair) => pair.sign(&random, message).map(|signature| signature.as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map(|()| signature)
            }
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
        .map_err(|error| Error::invalid(format!("the key cannot sign: {error}")))
    }
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(no_random)?;
    Ok(bytes)
}

fn derive(passphrase: &[u8], salt: &[u8], cost: u8) -> Result<[u8; 32]> {
    let cannot = |error: String| Error::invalid(format!("no key can be made of the passphrase: {error}"));
    let parameters = scrypt::Params::new(cost, 8, 1).map_err(|error| cannot(error.to_string()))?;
    let mut key = [0; 32];
    scrypt::scrypt(passphrase, salt, &parameters, &mut key).map_err(|error| cannot(error.to_string()))?;
    Ok(key)
}

/// NaCl's secretbox in the two halves that both directions need: the stream's first 32 bytes are the key of the seal
/// over the encrypted text, and the text is encrypted with what follows.
struct SecretBox {
    stream: XSalsa20,
    seal: Poly1305,
}

impl SecretBox {
    fn new(key: &[u8; 32], nonce: &[u8; NONCE]) -> Self {
        let mut stream = XSalsa20::new(key.into(), nonce.into());
        let mut first = [0; 32];
        stream.apply_keystream(&mut first);
        Self { stream, seal: Poly1305::new((&first).into()) }
    }

    fn seal(mut self, plain: &[u8]) -> Vec<u8> {
        let mut text = plain.to_vec();
        self.stream.apply_keystream(&mut text);
        [self.seal.compute_unpadded(&text).as_slice(), &text].concat()
    }

    /// Returns nothing if the box was made with another key, or changed.
    fn open(mut self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (tag, text) = sealed.split_at_checked(TAG)?;
        verify_slices_are_equal(self.seal.compute_unpadded(text).as_slice(), tag).ok()?;
        let mut plain = text.to_vec();
        self.stream.apply_keystream(&mut plain);
        Some(plain)
    }
}

fn encrypt(document: &[u8], passphrase: &[u8]) -> Result<String> {
    let (salt, nonce): ([u8; SALT], [u8; NONCE]) = (random()?, random()?);
    let sealed = SecretBox::new(&derive(passphrase, &salt, COST)?, &nonce).seal(document);
    let json = json!({
        "kdf": {
            "name": "scrypt",
            "params": { "N": 1_u32 << COST, "r": 8, "p": 1 },
            "salt": STANDARD.encode(salt),
        },
        "cipher": { "name": "nacl/secretbox", "nonce": STANDARD.encode(nonce) },
        "ciphertext": STANDARD.encode(sealed),
    });
    Ok(pem::write(LABEL, json.to_string().as_bytes()))
}

fn decrypt(json: &[u8], passphrase: &[u8]) -> Result<Vec<u8>> {
    let [derivation, cipher, sealed] =
        exactly(Value::Object(strict::parse_object(json)?), ["kdf", "cipher", "ciphertext"])?;
    let [function, parameters, salt] = exactly(derivation, ["name", "params", "salt"])?;
    let [cipher, nonce] = exactly(cipher, ["name", "nonce"])?;
    if (&function, &cipher) != (&"scrypt".into(), &"nacl/secretbox".into()) {
        return Err(Error::unsupported("it is not encrypted with scrypt and nacl/secretbox"));
    }
    // Others would let a file take any amount of memory and time.
    let cost = COSTS.into_iter().find(|cost| parameters == json!({ "N": 1_u32 << cost, "r": 8, "p": 1 }));
    let cost = cost.ok_or_else(|| Error::unsupported("its parameters of scrypt are not among those in use"))?;
    let salt = base64(&text(salt, "salt")?, "`salt`")?;
    let nonce = base64(&text(nonce, "nonce")?, "`nonce`")?;
    let nonce = nonce.try_into().map_err(|_| Error::invalid(format!("`nonce` does not have {NONCE} bytes")))?;
    let sealed = base64(&text(sealed, "ciphertext")?, "`ciphertext`")?;
    SecretBox::new(&derive(passphrase, &salt, cost)?, &nonce).open(&sealed).ok_or_else(|| {
        Error::new(crate::error::ErrorKind::Unauthorized, "the passphrase does not open it")
            .hint("the passphrase is wrong, or the file was changed")
    })
}

/// Signs manifests as cosign does, with a private key.
#[derive(Debug)]
pub struct SigstoreSigner {
    key: PrivateKey,
    name: String,
    creator: String,
    time: i64,
}

impl SigstoreSigner {
    /// Makes a signer. `name` is what the way of signing is called in messages, `creator` and `time` are what signatures say
    /// about who made them, and when, in seconds since 1970.
    pub fn new(key: PrivateKey, name: String, creator: String, time: i64) -> Self {
        Self { key, name, creator, time }
    }
}

impl Signer for SigstoreSigner {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn sign(&self, manifest: &Digest, identity: &Name) -> Result<UntrustedSignature> {
        if identity.tag().is_none() && identity.digest().is_none() {
            // Without either, a signature of an old image would be good for the name's every image.
            return Err(Error::invalid(format!("`{identity}` can be signed only with a tag or a digest")));
        }
        let payload = Payload { manifest: *manifest, identity: identity.to_string() };
        let payload = payload.to_json(&self.creator, self.time);
        let signature = STANDARD.encode(self.key.sign(&payload)?);
        let annotations = [(SIGNATURE.to_string(), signature)].into();
        Ok((&SigstoreSignature { mime_type: PAYLOAD_TYPE.to_string(), payload, annotations }).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_is_that_of_nacl() {
        // The beginning of the example of NaCl's own tests, `secretbox.c`.
        let key = *b"\x1b\x27\x55\x64\x73\xe9\x85\xd4\x62\xcd\x51\x19\x7a\x9a\x46\xc7\x60\x09\x54\x9e\xac\x64\x74\xf2\x06\xc4\xee\x08\x44\xf6\x83\x89";
        let nonce =
            *b"\x69\x69\x6e\xe9\x55\xb6\x2b\x73\xcd\x62\xbd\xa8\x75\xfc\x73\xd6\x82\x19\xe0\x03\x6b\x7a\x0b\x37";
        let plain = b"\xbe\x07\x5f\xc5\x3c\x81\xf2\xd5\xcf\x14\x13\x16\xeb\xeb\x0c\x7b";
        let text = b"\x8e\x99\x3b\x9f\x48\x68\x12\x73\xc2\x96\x50\xba\x32\xfc\x76\xce";
        let sealed = SecretBox::new(&key, &nonce).seal(plain);
        assert_eq!(&sealed[TAG..], text);
        assert_eq!(SecretBox::new(&key, &nonce).open(&sealed).expect("it is the key"), plain);
        for n in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[n] ^= 1;
            assert!(SecretBox::new(&key, &nonce).open(&changed).is_none(), "byte {n}");
        }
        assert!(SecretBox::new(&key, &nonce).open(&sealed[..TAG - 1]).is_none());
    }

    #[test]
    fn keys_of_all_kinds_sign_and_verify() {
        let random = SystemRandom::new();
        let rsa = RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).expect("a key");
        let rsa: aws_lc_rs::encoding::Pkcs8V1Der<'_> = rsa.as_der().expect("its document");
        let p521 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P521_SHA256_ASN1_SIGNING, &random).expect("a key");
        let edwards = Ed25519KeyPair::generate_pkcs8(&random).expect("a key");
        let edwards_v1 = Ed25519KeyPair::generate_pkcs8v1(&random).expect("a key");
        for (document, kind) in [
            (rsa.as_ref(), "RSA"),
            (p521.as_ref(), "ECDSA P-521"),
            (edwards.as_ref(), "Ed25519"),
            (edwards_v1.as_ref(), "Ed25519"),
        ] {
            let file = encrypt(document, b"p").expect("a file");
            let key = PrivateKey::from_file(file.as_bytes(), b"p").expect(kind);
            let (public, pem) = key.public_key().expect("its public key");
            assert_eq!((public.kind(), PublicKey::from_pem(pem.as_bytes()).expect("a key").kind()), (kind, kind));
            let signature = key.sign(b"text").expect("a signature");
            public.verify(b"text", &signature).expect("it is good");
            assert!(public.verify(b"test", &signature).is_err(), "{kind}");
        }
        // Nothing signs SHA-256 with P-384 here, and cosign makes no such keys.
        let algorithm = &aws_lc_rs::signature::ECDSA_P384_SHA384_ASN1_SIGNING;
        let p384 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
        let error = PrivateKey::from_pkcs8(p384.as_ref()).expect_err("it is of another kind");
        assert_eq!(error.kind(), crate::error::ErrorKind::Unsupported);
    }
}
