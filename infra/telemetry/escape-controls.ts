/**
 * C0 but for tab and line feed, DEL and C1: among them what starts a terminal's escape sequences. And lone surrogates, which
 * stand for bytes in names of files and would all look alike.
 */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const controls = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\p{Surrogate}]/gu

/**
 * Escapes control characters, which names of files and texts from outside can contain and a terminal would obey.
 * `\u001b` is also what JSON has for them, so JSON stays what it was.
 */
export const escapeControls = (text: string) =>
  text.replace(controls, (control) => `\\u${control.charCodeAt(0).toString(16).padStart(4, '0')}`)
