//! Takes images out of the `skopeo` in PATH as bootc and ostree do, and says what came: digests to compare, or a time.
//!
//!     holkas-proxy-client digests REFERENCE…    all of each image, by each way that the proxy has
//!     holkas-proxy-client drain REFERENCE…      its layers, one after the other, to nowhere

use std::process::ExitCode;

use containers_image_proxy::oci_spec::image::{Digest, MediaType};
use containers_image_proxy::{ImageProxy, ImageProxyConfig, OpenedImage};
use sha2::Digest as _;
use tokio::io::{AsyncRead, AsyncReadExt};

type Error = Box<dyn std::error::Error>;

/// Reads to the end, and returns the digest and the number of bytes.
async fn digest_of(mut reader: impl AsyncRead + Unpin) -> Result<(String, u64), std::io::Error> {
    let mut hasher = sha2::Sha256::new();
    let (mut buffer, mut bytes) = (vec![0; 64 << 10], 0);
    loop {
        let read = reader.read(&mut buffer).await?;
        if read == 0 {
            return Ok((format!("sha256:{}", hex::encode(hasher.finalize())), bytes));
        }
        hasher.update(&buffer[..read]);
        bytes += read as u64;
    }
}

/// Reads to the end, and returns the number of bytes.
async fn length_of(mut reader: impl AsyncRead + Unpin) -> Result<u64, std::io::Error> {
    // Its own buffer of 8 KiB, which a larger one goes around, would cost the client more than the server does.
    let (mut buffer, mut bytes) = (vec![0; 128 << 10], 0);
    loop {
        match reader.read(&mut buffer).await? {
            0 => return Ok(bytes),
            read => bytes += read as u64,
        }
    }
}

/// Takes one blob by `GetBlob` and, if the proxy has it, by `GetRawBlob`, and returns its size.
async fn blob(proxy: &ImageProxy, image: &OpenedImage, digest: &Digest, size: u64) -> Result<(), Error> {
    let (reader, finished) = proxy.get_blob(image, digest, size).await?;
    let (read, finished) = tokio::join!(digest_of(reader), finished);
    finished?;
    let expected = (digest.to_string(), size);
    if read? != expected {
        return Err(format!("GetBlob gave something else for {digest}").into());
    }
    if proxy.supports_get_raw_blob() {
        let (said, reader, failed) = proxy.get_raw_blob(image, digest).await?;
        let (read, failed) = tokio::join!(digest_of(reader), failed);
        failed?;
        if read? != expected || said != Some(size) {
            return Err(format!("GetRawBlob gave something else for {digest}").into());
        }
    }
    println!("  {digest} {size}");
    Ok(())
}

/// Takes all of an image.
async fn digests(proxy: &ImageProxy, reference: &str) -> Result<(), Error> {
    let image = proxy.open_image(reference).await?;
    let (digest, manifest) = proxy.fetch_manifest(&image).await?;
    println!("{digest}");
    let config = proxy.fetch_config_raw(&image).await?;
    if *manifest.config().media_type() == MediaType::ImageConfig {
        // It must be readable as one, and be the blob that the manifest names.
        proxy.fetch_config(&image).await?;
        let named = manifest.config();
        let found = digest_of(config.as_slice()).await?;
        if found != (named.digest().to_string(), named.size()) {
            return Err(format!("the config is {found:?}, but the manifest names {named:?}").into());
        }
        blob(proxy, &image, named.digest(), named.size()).await?;
    }
    let layers = proxy.get_layer_info(&image).await?.ok_or("the proxy has no GetLayerInfo")?;
    if layers.len() != manifest.layers().len() {
        return Err(format!("{} layers, but the manifest names {}", layers.len(), manifest.layers().len()).into());
    }
    for layer in layers {
        println!(" {}", layer.media_type);
        blob(proxy, &image, &layer.digest, layer.size).await?;
    }
    proxy.close_image(&image).await?;
    Ok(())
}

/// Reads the layers of an image, one after the other.
async fn drain(proxy: &ImageProxy, reference: &str) -> Result<(), Error> {
    let image = proxy.open_image(reference).await?;
    let (_, manifest) = proxy.fetch_manifest(&image).await?;
    for layer in manifest.layers() {
        let (reader, finished) = proxy.get_descriptor(&image, layer).await?;
        let (read, finished) = tokio::join!(length_of(reader), finished);
        finished?;
        if read? != layer.size() {
            return Err(format!("layer {} came short", layer.digest()).into());
        }
    }
    proxy.close_image(&image).await?;
    Ok(())
}

async fn run() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, references @ ..] = arguments.as_slice() else {
        return Err("usage: holkas-proxy-client digests|drain REFERENCE…".into());
    };
    let mut config = ImageProxyConfig::default();
    config.insecure_policy = Some(true);
    config.insecure_skip_tls_verification = Some(true);
    let proxy = ImageProxy::new_with_config(config).await?;
    for reference in references {
        match what.as_str() {
            "digests" => digests(&proxy, reference).await,
            "drain" => drain(&proxy, reference).await,
            _ => Err(format!("`{what}` is neither digests nor drain").into()),
        }
        .map_err(|error| format!("{reference}: {error}"))?;
    }
    proxy.finalize().await?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
