//! Chunks of PNG files.

/// Returns a PNG file without its colour profile and texts. They are not used, and decompressing them could
/// take any amount of memory.
pub(super) fn without_metadata(png: &[u8]) -> Vec<u8> {
    const CHUNKS: [&[u8]; 4] = [b"iCCP", b"iTXt", b"tEXt", b"zTXt"];
    let signature = png.len().min(8);
    let (signature, mut rest) = png.split_at(signature);
    let mut kept = signature.to_vec();
    // A chunk is the length of its data, its type, its data and a checksum.
    while let Some((length, _)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let (chunk, further) = rest.split_at(length.saturating_add(12).min(rest.len()));
        if !chunk.get(4..8).is_some_and(|name| CHUNKS.contains(&name)) {
            kept.extend_from_slice(chunk);
        }
        rest = further;
    }
    kept.extend_from_slice(rest);
    kept
}

#[cfg(test)]
mod tests {
    use image::ImageFormat;

    use super::super::header::tests::encoded;
    use super::*;

    #[test]
    fn metadata_that_is_not_used_is_not_read() {
        let plain = encoded(ImageFormat::Png);
        assert_eq!(without_metadata(&plain), plain);
        // The header is a chunk of 13 bytes. The profile and the text are not valid.
        let mut file = plain[..33].to_vec();
        for name in [b"iCCP", b"zTXt", b"iTXt", b"tEXt"] {
            file.extend(b"\0\0\0\x03");
            file.extend(name);
            file.extend(b"abc\0\0\0\0");
        }
        file.extend(&plain[33..]);
        assert_eq!(without_metadata(&file), plain);
        for end in 0..plain.len() {
            assert_eq!(without_metadata(&plain[..end]), plain[..end]);
        }
    }
}
