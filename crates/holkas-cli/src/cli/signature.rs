//! What was typed after `signature`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `signature`
#[derive(Debug, Args)]
pub(crate) struct Signature {
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Signature {
    /// Returns whether the result shall be JSON.
    pub(crate) fn json(&self) -> bool {
        match &self.command {
            Command::Sign(_) | Command::GenerateKey(_) => false,
            Command::Verify(verify) => verify.json,
            Command::Show(show) => show.json,
        }
    }
}

/// What is done with a signature.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Sign a manifest in a file by a key of GnuPG: simple signing
    Sign(Sign),
    /// Verify that a signature is for a manifest in a file, for a name, and by one of some keys
    Verify(Verify),
    /// Show what a signature says, without verifying it
    Show(Show),
    /// Make a key that signs as cosign does: PREFIX.private, under a passphrase, and PREFIX.pub, which policies name
    GenerateKey(GenerateKey),
}

/// `signature generate-key`
#[derive(Debug, Args)]
pub(crate) struct GenerateKey {
    /// What the names of both files begin with; neither may be there
    #[arg(long, value_name = "PREFIX")]
    pub(crate) output_prefix: PathBuf,
    /// Take the passphrase from the first line of this file; without it, it is asked for
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

/// `signature sign`
#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// The manifest or manifest list; `-` for standard input
    #[arg(value_name = "MANIFEST")]
    pub(crate) manifest: PathBuf,
    /// What the image is called: HOST/PATH:TAG
    #[arg(long, value_name = "NAME")]
    pub(crate) identity: String,
    /// The key, by its fingerprint
    #[arg(long, value_name = "FINGERPRINT")]
    pub(crate) by: String,
    /// Read the key's passphrase from this file; without it, GnuPG asks for it
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Where the signature goes
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
}

/// `signature verify`
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The manifest or manifest list
    #[arg(value_name = "MANIFEST")]
    pub(crate) manifest: PathBuf,
    /// The signature
    #[arg(value_name = "SIGNATURE")]
    pub(crate) signature: PathBuf,
    /// What the image is called: HOST/PATH:TAG
    #[arg(long, value_name = "NAME")]
    pub(crate) identity: String,
    /// A file of public keys, any of which may have signed; may be given more than once
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) public_keys: Vec<PathBuf>,
    /// Print the result, and an error, as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `signature show`
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The signature; `-` for standard input
    #[arg(value_name = "SIGNATURE")]
    pub(crate) signature: PathBuf,
    /// Print it, and an error, as JSON
    #[arg(long)]
    pub(crate) json: bool,
}
