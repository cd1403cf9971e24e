//! What a policy and a version of systemd make of an image.

use super::*;

#[test]
fn systemds_own_policy_admits_everything_that_works() {
    // 249 knows no signature partition; up to 257 a root hash comes from a signature only, and the
    // signature of a usr partition is not looked for; from 258 on a root hash is guessed; from 259
    // on a hash tree is enough.
    hold(&[
        ("", Bare, &[(ALL, UNPROTECTED)]),
        ("", Plain, &[(ALL, UNPROTECTED)]),
        ("", UsrPlain, &[(ALL, UNPROTECTED)]),
        (
            "",
            Hash,
            &[(TO_257, NOT_ACTIVATED), ("258 258.3 259 262", VERITY)],
        ),
        (
            "",
            UsrHash,
            &[(TO_257, NOT_ACTIVATED), ("258 258.3 259 262", VERITY)],
        ),
        (
            "",
            Trusted,
            &[
                ("249", NOT_ACTIVATED),
                ("250 252 253 254 255 257 258 258.3 259 262", SIGNED),
            ],
        ),
        (
            "",
            Stranger,
            &[
                ("249", NOT_ACTIVATED),
                ("250 252 253 254 255 257 258 258.3", UNTRUSTED),
                ("259 260 262", TRUST_WAIVED),
            ],
        ),
        (
            "",
            Empty,
            &[
                ("249", NOT_ACTIVATED),
                ("250 252 253 254 255 257 258 258.3 259 262", UNSIGNED),
            ],
        ),
        (
            "",
            Garbled,
            &[
                ("249", NOT_ACTIVATED),
                (
                    "250 252 255 257 258 258.3 259 262",
                    (BlocksAll, "signature-unusable"),
                ),
            ],
        ),
        (
            "",
            Damaged,
            &[(TO_257, NOT_ACTIVATED), ("258 258.3 259 262", MISMATCH)],
        ),
        (
            "",
            DamagedSigned,
            &[
                ("249", NOT_ACTIVATED),
                ("250 252 255 257 258 258.3 259 262", MISMATCH),
            ],
        ),
        (
            "",
            UsrTrusted,
            &[
                ("249", NOT_ACTIVATED),
                ("250 252 254 255 257", USR_NOT_LOOKED_AT),
                ("258 258.3 259 262", SIGNED),
            ],
        ),
        (
            "",
            UsrStranger,
            &[
                ("249", NOT_ACTIVATED),
                ("250 252 254 255 257", USR_NOT_LOOKED_AT),
                ("258 258.3", UNTRUSTED),
                ("259 262", TRUST_WAIVED),
            ],
        ),
        (
            "",
            UsrEmpty,
            &[
                ("249", NOT_ACTIVATED),
                ("250 252 254 255 257", USR_NOT_LOOKED_AT),
                ("258 258.3 259 262", UNSIGNED),
            ],
        ),
    ]);
}

#[test]
fn a_policy_that_asks_for_signatures_lets_nothing_else_through_but_a_usr_partition() {
    const POLICY: &str = "root=signed+absent:usr=signed+absent";
    const SINCE_254: &str = "254 255 257 258 258.3 259 262";
    hold(&[
        (POLICY, Bare, &[(SINCE_254, REFUSED)]),
        (POLICY, Plain, &[(SINCE_254, REFUSED)]),
        (POLICY, Hash, &[(SINCE_254, REFUSED)]),
        (POLICY, UsrPlain, &[(SINCE_254, REFUSED)]),
        (POLICY, UsrHash, &[(SINCE_254, REFUSED)]),
        (POLICY, Trusted, &[(SINCE_254, SIGNED)]),
        (POLICY, Stranger, &[(SINCE_254, UNTRUSTED)]),
        (POLICY, Empty, &[(SINCE_254, UNSIGNED)]),
        (POLICY, DamagedSigned, &[(SINCE_254, MISMATCH)]),
        (
            POLICY,
            UsrTrusted,
            &[
                ("254 255 257", USR_NOT_LOOKED_AT),
                ("258 258.3 259 262", SIGNED),
            ],
        ),
        (
            POLICY,
            UsrStranger,
            &[
                ("254 255 257", USR_NOT_LOOKED_AT),
                ("258 258.3 259 262", UNTRUSTED),
            ],
        ),
    ]);
}

#[test]
fn a_policy_without_signed_switches_the_check_of_signatures_off() {
    const VERITY_ONLY: &str = "root=verity";
    const NOTHING: &str = "root=unprotected";
    hold(&[
        (VERITY_ONLY, Plain, &[("254 255 257 258 259 262", REFUSED)]),
        (
            VERITY_ONLY,
            Hash,
            &[
                ("254 255 257", NOT_ACTIVATED),
                ("258 258.3 259 262", VERITY),
            ],
        ),
        (
            VERITY_ONLY,
            Trusted,
            &[
                ("254 255 257", NOT_ACTIVATED),
                ("258 258.3 259 262", VERITY),
            ],
        ),
        (
            VERITY_ONLY,
            Stranger,
            &[("254 255 257", NOT_ACTIVATED), ("258 259 262", VERITY)],
        ),
        // From 258.3 on metadata is read under systemd's own policy, which looks at the signature.
        (
            VERITY_ONLY,
            Empty,
            &[
                ("254 255 257", NOT_ACTIVATED),
                ("258", VERITY),
                ("258.3 259 262", UNSIGNED),
            ],
        ),
        (
            VERITY_ONLY,
            DamagedSigned,
            &[
                ("254 255 257", NOT_ACTIVATED),
                ("258 258.3 259 262", MISMATCH),
            ],
        ),
        (NOTHING, Bare, &[("254 255 257 258 259 262", UNPROTECTED)]),
        (NOTHING, Plain, &[("254 255 257 258 259 262", UNPROTECTED)]),
        (
            NOTHING,
            Hash,
            &[("254 255 257 258 258.3 259 262", NOT_ACTIVATED)],
        ),
        (
            NOTHING,
            Trusted,
            &[("254 255 257 258 258.3 259 262", NOT_ACTIVATED)],
        ),
        (
            NOTHING,
            Stranger,
            &[("254 255 257 258 259 262", NOT_ACTIVATED)],
        ),
        (
            NOTHING,
            Empty,
            &[
                ("254 255 257 258", NOT_ACTIVATED),
                ("258.3 259 262", UNSIGNED),
            ],
        ),
        (
            NOTHING,
            Damaged,
            &[
                ("254 255 257 258", NOT_ACTIVATED),
                ("258.3 259 262", MISMATCH),
            ],
        ),
    ]);
}

#[test]
fn partitions_that_a_policy_derives_must_be_there_unless_it_says_absent() {
    const SINCE_254: &str = "254 255 257 258 259 262";
    const TO_258: &str = "254 255 257 258";
    hold(&[
        ("root=verity+unprotected", Plain, &[(TO_258, REFUSED)]),
        ("root=verity+unprotected", Bare, &[(SINCE_254, UNPROTECTED)]),
        (
            "root=verity+unprotected+absent",
            Plain,
            &[(TO_258, UNPROTECTED)],
        ),
        (
            "root=verity+unprotected+absent",
            Bare,
            &[(SINCE_254, UNPROTECTED)],
        ),
        ("root=signed+unprotected", Plain, &[(TO_258, REFUSED)]),
        (
            "root=signed+unprotected+absent",
            Plain,
            &[(SINCE_254, UNPROTECTED)],
        ),
        // The strongest level that is left must be allowed; 258 counts it as the weaker ones, too.
        (
            "root=signed+unprotected+absent",
            Hash,
            &[("254 255 257", REFUSED), ("258", VERITY)],
        ),
        ("root=verity+signed+absent", Plain, &[(SINCE_254, REFUSED)]),
        ("root=verity+signed+absent", Bare, &[(SINCE_254, REFUSED)]),
        (
            "root=verity+signed+absent",
            Stranger,
            &[("254 255 257 258", UNTRUSTED), ("259 262", TRUST_WAIVED)],
        ),
        ("=unprotected", Plain, &[(SINCE_254, REFUSED)]),
        ("=unprotected", Bare, &[(SINCE_254, UNPROTECTED)]),
        ("=unprotected", UsrPlain, &[(SINCE_254, REFUSED)]),
        ("root=encrypted+absent", Plain, &[(SINCE_254, REFUSED)]),
        ("root=encrypted+absent", Bare, &[(SINCE_254, REFUSED)]),
        (
            "root=encrypted+unprotected",
            Plain,
            &[(SINCE_254, UNPROTECTED)],
        ),
        ("usr=unprotected", Plain, &[(SINCE_254, REFUSED)]),
        ("usr=unprotected", UsrPlain, &[(SINCE_254, UNPROTECTED)]),
        ("root=unprotected", UsrPlain, &[(SINCE_254, REFUSED)]),
        ("*", Plain, &[(SINCE_254, UNPROTECTED)]),
        ("*", UsrPlain, &[(SINCE_254, UNPROTECTED)]),
        ("*", Trusted, &[(SINCE_254, SIGNED)]),
        (
            "*",
            Stranger,
            &[("254 255 257 258", UNTRUSTED), ("259 262", TRUST_WAIVED)],
        ),
        ("-", Bare, &[(SINCE_254, REFUSED)]),
        ("-", Trusted, &[(SINCE_254, REFUSED)]),
        ("~", Bare, &[(SINCE_254, REFUSED)]),
        ("~", Plain, &[(SINCE_254, REFUSED)]),
        ("~", Trusted, &[(SINCE_254, REFUSED)]),
    ]);
}
