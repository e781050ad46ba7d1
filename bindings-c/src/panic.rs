//! No panic crosses into C: every exported body stands in one of these.

/// The body of an exported function that returns `unstale_result`: a block that ends in `Result<(), Error>` and may use
/// `?`.
macro_rules! boundary {
    ($($body:tt)*) => {
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| -> unstale_core::Result<()> { $($body)* })) {
            Ok(Ok(())) => crate::error::unstale_result::OK,
            Ok(Err(error)) => crate::error::remember(&error),
            Err(payload) => crate::panic::caught(payload),
        }
    };
}

/// The body of an exported function that returns anything else, and what it returns if the body panics.
macro_rules! boundary_or {
    ($default:expr, $body:block) => {
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| $body)) {
            Ok(value) => value,
            Err(payload) => {
                crate::panic::caught(payload);
                $default
            }
        }
    };
}

pub(crate) use {boundary, boundary_or};

use std::any::Any;

use unstale_core::{Error, ErrorKind};

use crate::error::{remember, unstale_result};

/// `UNSTALE_INTERNAL` with what the panic said.
#[cold]
pub(crate) fn caught(payload: Box<dyn Any + Send>) -> unstale_result {
    let said = payload
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
        .to_owned();
    // A payload whose drop panics too would end the process; it is nobody's but ours, and leaking it is the lesser harm.
    std::mem::forget(payload);
    remember(&Error::new(ErrorKind::Internal, format!("a fault in unstale, please report it: {said}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_internal_error() {
        let result = boundary! { panic!("on purpose") };
        assert_eq!(result.code, ErrorKind::Internal as u32);
        assert_eq!(boundary_or!(7, { panic!("on purpose") }), 7);
    }
}
