//! Training examples: a corpus as token ids.

use crate::corpus::Layout;
use crate::error::Result;
use crate::tokenizer::Tokenizer;

/// Sequences of tokens, each with at least one prediction and at most one token more than fits the context.
///
/// A document is wrapped in BOS and truncated to the context. Running text is cut into windows, each with its
/// own leading BOS, because prompts begin with BOS as well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Examples {
    tokens: Vec<u32>,
    /// End of each example in `tokens`.
    ends: Vec<usize>,
    /// Number of documents longer than the context, which are truncated.
    cut: usize,
    /// The context that would hold every document.
    whole: usize,
}

impl Examples {
    pub(crate) fn new(
        texts: &[String],
        layout: Layout,
        tokenizer: &Tokenizer,
        block_size: usize,
    ) -> Result<Self> {
        let mut examples = Self::default();
        let bos = tokenizer.bos();
        for text in texts {
            let ids = tokenizer.encode(text)?;
            match layout {
                Layout::Lines => {
                    examples.cut += usize::from(ids.len() + 1 > block_size);
                    examples.whole = examples.whole.max(ids.len() + 1);
                    let document = [bos].into_iter().chain(ids).chain([bos]);
                    examples.push(document.take(block_size + 1));
                }
                Layout::Packed => {
                    examples.whole = block_size;
                    for window in ids.chunks(block_size) {
                        examples.push([bos].into_iter().chain(window.iter().copied()));
                    }
                }
            }
        }
        Ok(examples)
    }

    fn push(&mut self, tokens: impl Iterator<Item = u32>) {
        self.tokens.extend(tokens);
        self.ends.push(self.tokens.len());
    }

    /// Returns the number of examples.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns the number of documents that were truncated to the context.
    pub(crate) fn cut(&self) -> usize {
        self.cut
    }

    /// Returns the context that would hold every document, including BOS; for running text, the actual
    /// context.
    pub(crate) fn whole(&self) -> usize {
        self.whole
    }

    /// Returns the tokens of example `i`.
    pub(crate) fn get(&self, i: usize) -> &[u32] {
        let begin = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.tokens[begin..self.ends[i]]
    }

    /// Returns all examples, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u32]> {
        (0..self.len()).map(|i| self.get(i))
    }

    /// Returns the number of predictions of the longest example.
    pub(crate) fn longest(&self) -> usize {
        self.iter().map(|e| e.len() - 1).max().unwrap_or(0)
    }

    /// Returns the number of predictions of all examples together.
    pub(crate) fn predictions(&self) -> usize {
        self.tokens.len() - self.ends.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples(texts: &[&str], layout: Layout) -> Examples {
        let tokenizer = Tokenizer::characters(&["abcdef"]); // BOS is 6
        let texts: Vec<String> = texts.iter().map(|&t| t.to_owned()).collect();
        Examples::new(&texts, layout, &tokenizer, 4).unwrap()
    }

    #[test]
    fn documents_are_wrapped_and_cut() {
        let made = examples(&["ab", "abcdef", "abc", "abcd"], Layout::Lines);
        let all: Vec<&[u32]> = made.iter().collect();
        assert_eq!(all, [&[6, 0, 1, 6][..], &[6, 0, 1, 2, 3], &[6, 0, 1, 2, 6], &[6, 0, 1, 2, 3]]);
        assert_eq!((made.len(), made.predictions(), made.cut()), (4, 3 + 4 + 4 + 4, 2));
        assert_eq!(made.whole(), 7, "BOS and six letters");
    }

    #[test]
    fn running_text_is_cut_into_windows_that_begin_with_bos() {
        let made = examples(&["abcdefabcd"], Layout::Packed);
        let all: Vec<&[u32]> = made.iter().collect();
        assert_eq!(all, [&[6, 0, 1, 2, 3][..], &[6, 4, 5, 0, 1], &[6, 2, 3]]);
        assert_eq!((made.predictions(), made.cut()), (10, 0));
    }
}
