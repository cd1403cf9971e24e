//! Values that may be written short: a scalar for an object, `false` for
//! `verity: none`, octal permissions in Prism's spellings.
//!
//! Visitors instead of untagged enums, because those lose the position of an
//! error and answer "did not match any variant".

use std::fmt;
use std::marker::PhantomData;

use serde::de;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::model::{Exceptions, Repair};
use crate::config::model::VerityMode;

/// An object of type `T`, or the string from which `T` can be made.
struct ScalarOrMap<T>(T);

impl<'de, T: Deserialize<'de> + From<String>> Deserialize<'de> for ScalarOrMap<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + From<String>> Visitor<'de> for Either<T> {
            type Value = T;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a mapping")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
                Ok(T::from(text.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer
            .deserialize_any(Either(PhantomData))
            .map(ScalarOrMap)
    }
}

pub(super) fn scalar_or_map_option<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + From<String>,
{
    Option::<ScalarOrMap<T>>::deserialize(deserializer).map(|value| value.map(|value| value.0))
}

/// A list of such values; a list left empty (`null`) is an empty list.
pub(super) fn scalars_or_maps<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + From<String>,
{
    struct List<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de> + From<String>> Visitor<'de> for List<T> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }
        fn visit_unit<E: de::Error>(self) -> Result<Vec<T>, E> {
            Ok(Vec::new())
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(item) = items.next_element::<ScalarOrMap<T>>()? {
                list.push(item.0);
            }
            Ok(list)
        }
    }
    deserializer.deserialize_any(List(PhantomData))
}

/// Prism re-reads the text of `permissions` as octal, whatever YAML made of it
/// (imagecustomizerapi/filepermissions.go); only the bits of 0777 are valid.
pub(super) fn permissions<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u16>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let digits_only = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match u16::from_str_radix(&text, 8) {
        Ok(mode) if digits_only && mode <= 0o777 => Ok(Some(mode)),
        _ => Err(de::Error::custom(format!(
            "expected octal permissions between 000 and 777, found `{text}`"
        ))),
    }
}

/// Bytes as Prism writes the sizes of partitions, a number or one with K, M, G or T
/// (imagecustomizerapi/disksize.go).
pub(super) fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let (digits, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(end) => text.split_at(end),
        None => (text.as_str(), ""),
    };
    let factor: Option<u64> = match unit {
        "" => Some(1),
        "K" => Some(1 << 10),
        "M" => Some(1 << 20),
        "G" => Some(1 << 30),
        "T" => Some(1 << 40),
        _ => None,
    };
    let count = digits.parse::<u64>().ok();
    match count
        .zip(factor)
        .and_then(|(count, factor)| count.checked_mul(factor))
    {
        Some(bytes) => Ok(Some(bytes)),
        None => Err(de::Error::custom(format!(
            "expected a size in bytes, such as 67108864 or 64M, found `{text}`"
        ))),
    }
}

impl<'de> Deserialize<'de> for Repair {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Repair, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Repair;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one of auto, never, {except: […]}")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Repair, E> {
                match text {
                    "never" => Ok(Repair::Never),
                    "auto" => Ok(Repair::But(Vec::new())),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Repair, A::Error> {
                let exceptions = Exceptions::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Repair::But(exceptions.except))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for VerityMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<VerityMode, D::Error> {
        struct Word;
        impl Visitor<'_> for Word {
            type Value = VerityMode;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one of signed, defer, hash, none, false")
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<VerityMode, E> {
                if value {
                    Ok(VerityMode::Signed)
                } else {
                    Ok(VerityMode::None)
                }
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<VerityMode, E> {
                match text {
                    "signed" => Ok(VerityMode::Signed),
                    "defer" => Ok(VerityMode::Defer),
                    "hash" => Ok(VerityMode::Hash),
                    "none" => Ok(VerityMode::None),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Word)
    }
}
