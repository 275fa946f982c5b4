//! Compilation of one function for each instruction set, vectorized by the compiler.

/// Compiles the function after `=>`, which must be inlined, for each instruction set. Its const parameter
/// states whether there is an instruction for a fused multiply-add, without which [`f32::mul_add`] is a slow
/// function.
macro_rules! for_each_isa {
    ($($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? => $inner:ident;)+) => {$(
        $(#[$doc])*
        $vis fn $name(isa: Isa, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
            fn avx512($($arg: $ty),*) $(-> $ret)? {
                $inner::<true>($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2($($arg: $ty),*) $(-> $ret)? {
                $inner::<true>($($arg),*)
            }
            match isa {
                // SAFETY: `Isa` values exist only for instructions that the machine has.
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => unsafe { avx2($($arg),*) },
                // NEON, which every aarch64 has, includes a fused multiply-add; x86-64 without AVX2 may not.
                _ => $inner::<{ cfg!(target_arch = "aarch64") }>($($arg),*),
            }
        }
    )+};
}

pub(super) use for_each_isa;

/// Returns `x * y + z`.
#[inline(always)]
pub(super) fn mul_add<const FMA: bool>(x: f32, y: f32, z: f32) -> f32 {
    if FMA { x.mul_add(y, z) } else { x * y + z }
}
