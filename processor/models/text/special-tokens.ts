/** Where a text is cut before it is encoded: a code point that is no character, so that no text needs it. */
export const shieldMark = '\u{fdd0}'

/** Of `tokenizer.json`. */
interface AddedToken {
  content: string
  special: boolean
  normalized?: boolean | null
}

/** Tokens that structure a prompt, though their file may not say that they are special: `<image>`, `[SEP]`. */
const isStructure = ({ content, special }: AddedToken) =>
  content.length > 1 && (special || /^<.+>$|^\[.+\]$/s.test(content))

/**
 * Makes the shield of a tokenizer. The library finds special tokens wherever they are, as Hugging Face's does, so a caller
 * could end his turn with `<|im_end|>`, or put `<image>` where there is none. Shielded texts have a mark behind the first
 * character of each; they are encoded in the parts between marks. Texts without such tokens stay as they are.
 */
export function shieldOf(added: readonly AddedToken[]): (texts: readonly string[]) => string[] {
  const tokens = added.filter(isStructure)
  // Tokens that are found in the normalised text may be written in other letters.
  const fold = tokens.some(({ normalized }) => normalized)
    ? (text: string) => text.replace(/[A-Z]/g, (letter) => letter.toLowerCase())
    : (text: string) => text
  const starts = trieOf(tokens.map(({ content }) => fold(content)))
  return (texts) => {
    const clean = texts.map((text) => text.replaceAll(shieldMark, ''))
    // A token may begin in one text and end in the next.
    const cuts = cutsIn(fold(clean.join('')), starts)
    let begin = 0
    return clean.map((text) => {
      const end = begin + text.length
      const own = cuts.filter((cut) => cut > begin && cut <= end).map((cut) => cut - begin)
      begin = end
      return [0, ...own].map((from, index) => text.slice(from, own[index])).join(shieldMark)
    })
  }
}

interface Trie {
  /** Whether a word ends here. */
  ends: boolean
  next: Map<string, Trie>
}

/** By UTF-16 units. */
function trieOf(words: readonly string[]): Trie {
  const root: Trie = { ends: false, next: new Map() }
  for (const word of words) {
    let node = root
    for (let at = 0; at < word.length; at++) {
      const child = node.next.get(word[at]!) ?? { ends: false, next: new Map() }
      node.next.set(word[at]!, child)
      node = child
    }
    node.ends = true
  }
  return root
}

/** Behind the first character of each word. */
function cutsIn(text: string, words: Trie): number[] {
  const cuts: number[] = []
  for (let start = 0; start < text.length; start++) {
    let node: Trie | undefined = words
    for (let at = start; node && !node.ends; at++) node = node.next.get(text[at] ?? '')
    if (node) cuts.push(start + 1)
  }
  return cuts
}
