//! Text generation with burn: slow, without a KV cache, and the reference for faster implementations.

use rand::{Rng, RngExt as _};

use crate::config::GptConfig;
use crate::error::{Error, Result};
use crate::model::Gpt;
use crate::tokenizer::Tokenizer;

/// Completes `prompt` as microGPT samples: from BOS, at a temperature (0.5 in microGPT), until BOS or the end
/// of the context.
///
/// Temperature 0 always picks the most likely token. Returns the prompt with its completion.
///
/// # Errors
///
/// [`Error::UnknownCharacter`] if the tokenizer lacks a character of the prompt; [`Error::Config`] if the
/// prompt is longer than the context.
pub fn generate(
    model: &Gpt,
    config: &GptConfig,
    tokenizer: &Tokenizer,
    prompt: &str,
    temperature: f32,
    rng: &mut impl Rng,
) -> Result<String> {
    let mut tokens = vec![tokenizer.bos()];
    tokens.extend(tokenizer.encode(prompt)?);
    if tokens.len() > config.block_size {
        return Err(Error::Config {
            field: "block_size",
            reason: format!(
                "the prompt has {} tokens with BOS, the context {}",
                tokens.len(),
                config.block_size
            ),
        });
    }
    while tokens.len() <= config.block_size {
        let logits = model.logits(&tokens);
        let next = sample(&logits[logits.len() - config.vocab_size..], temperature, rng);
        if next == tokenizer.bos() {
            break;
        }
        tokens.push(next);
    }
    Ok(tokenizer.decode(&tokens))
}

/// Draws from `softmax(logits / temperature)`.
fn sample(logits: &[f32], temperature: f32, rng: &mut impl Rng) -> u32 {
    let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap_or(0);
    if temperature <= 0.0 {
        return best as u32;
    }
    let weights: Vec<f64> =
        logits.iter().map(|&l| f64::from((l - logits[best]) / temperature).exp()).collect();
    let mut left = rng.random::<f64>() * weights.iter().sum::<f64>();
    for (token, weight) in weights.iter().enumerate() {
        left -= weight;
        if left < 0.0 {
            return token as u32;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::config::Preset;
    use crate::corpus::Corpus;
    use crate::device::Backend;
    use crate::training::{TrainingConfig, train};
    use crate::weights::INIT_STD;

    #[test]
    fn sampling_follows_the_distribution() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        // softmax([ln 1, ln 3]) = [0.25, 0.75]
        let ones = (0..10_000).filter(|_| sample(&[0.0, 3f32.ln()], 1.0, &mut rng) == 1).count();
        // Four standard deviations of a binomial with p = 0.75: 4 * sqrt(10000 * 0.1875) = 173.
        assert!((7_327..=7_673).contains(&ones), "{ones}");
        assert_eq!(sample(&[0.0, 2.0, 1.0], 0.0, &mut rng), 1);
    }

    #[test]
    fn completes_a_prompt_and_repeats_with_the_seed() {
        let training = TrainingConfig { steps: 100, ..TrainingConfig::preset(Preset::Original) };
        let trained =
            train(&Corpus::built_in(), |v| GptConfig::preset(Preset::Original, v), &training, |_| {})
                .unwrap();
        for backend in Backend::ALL {
            let model = Gpt::new(&trained.config, &trained.weights, &backend.device());
            let once = |seed| {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                generate(&model, &trained.config, &trained.tokenizer, "ka", 0.5, &mut rng).unwrap()
            };
            assert!(once(1).starts_with("ka"));
            assert!(once(1).chars().count() <= 16);
            assert_eq!(once(1), once(1));
        }
    }

    #[test]
    fn a_prompt_longer_than_the_context_is_refused() {
        let config = GptConfig::preset(Preset::Original, 3);
        let tokenizer = Tokenizer::characters(&["ab"]);
        let model =
            Gpt::new(&config, &crate::Weights::random(&config, INIT_STD, 0), &Backend::default().device());
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let error = generate(&model, &config, &tokenizer, &"a".repeat(16), 0.5, &mut rng).unwrap_err();
        assert!(error.to_string().contains("the prompt has 17 tokens with BOS, the context 16"), "{error}");
    }
}
