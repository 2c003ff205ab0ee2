//! The images of a stage's containers input, with the policy that they must pass.

use holkas::containers::{ContainersInput, ResolvedImage};
use holkas::copy::CopyOptions;
use holkas::error::{Error, Result};
use holkas::fs::display;
use holkas::open::{Rooms, open_source};
use holkas::policy::Policy;
use holkas::progress::Cancel;
use serde_json::Value;

use super::arguments::Arguments;
use super::say;
use crate::environment;

/// Returns the images of the inputs `images` and `manifest-lists`, each with the lists that name it.
pub(super) fn read(arguments: &Arguments) -> Result<Vec<ResolvedImage>> {
    arguments.inputs.only(&["images", "manifest-lists"])?;
    let input = ContainersInput::from_json(&Value::Object(arguments.inputs.fields.clone()))?;
    let rooms = rooms(arguments);
    let images = input.resolve(|reference| open_source(reference, &rooms))?;
    match images.is_empty() {
        true => Err(Error::invalid("the input `images` has no image")),
        false => Ok(images),
    }
}

/// Returns what opening the images needs.
pub(super) fn rooms(arguments: &Arguments) -> Rooms {
    Rooms { clock: arguments.clock, ..Rooms::default() }
}

/// Returns how images are copied: nothing but a kill stops a stage.
pub(super) fn copy_options(remove_signatures: bool) -> CopyOptions {
    CopyOptions { remove_signatures, cancel: Cancel::default(), ..CopyOptions::default() }
}

/// Returns the policy of the build root; where there is none, one that accepts every image.
///
/// What a stage gets was fetched, and admitted, on the host, or made by this build; and it is named by digests in the
/// manifest. A build root needs nothing of containers in it for holkas, so that a policy need not be there.
pub(super) fn policy() -> Result<Policy> {
    match environment::system_policy_file()? {
        Some(file) => Ok(Policy::parse(&file.bytes, &display(&file.path))?.at(environment::now())),
        None => {
            say("the build root has no /etc/containers/policy.json: every image of the input is accepted");
            Ok(Policy::accept_anything())
        }
    }
}
