//! Enums whose values have names, for options that a user writes.

/// A name that no value of an enum has.
///
/// ```
/// use mlpackage::UnknownName;
///
/// let error = UnknownName { what: "engine", found: "gpu".into(), expected: "auto, coreml, mil-cpu".into() };
/// assert_eq!(error.to_string(), "engine \"gpu\": expected one of auto, coreml, mil-cpu");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {found:?}: expected one of {expected}")]
pub struct UnknownName {
    /// What the enum chooses.
    pub what: &'static str,
    /// The name that was given.
    pub found: String,
    /// The names of all values.
    pub expected: String,
}

/// Defines an enum whose values have names: the constant `ALL`, the method `name`, `Default`, `Display`, and
/// `FromStr`, which fails with [`UnknownName`](crate::UnknownName). The crates of this workspace use it for
/// their options.
#[doc(hidden)]
#[macro_export]
macro_rules! named_enum {
    ($(#[$doc:meta])* $name:ident, $what:literal, default $default:ident,
     { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            /// Every value, in order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the name of the value, as a command line accepts it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl ::std::default::Default for $name {
            fn default() -> Self {
                Self::$default
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::UnknownName;

            fn from_str(text: &str) -> ::std::result::Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|value| value.name() == text).ok_or_else(|| $crate::UnknownName {
                    what: $what,
                    found: text.to_owned(),
                    expected: [$($text),+].join(", "),
                })
            }
        }
    };
}
