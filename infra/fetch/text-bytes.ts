const headBytes = 1024
/** Bytes that are in no text: control characters other than white space and escape. */
const isBinary = (byte: number) => byte < 0x09 || (byte > 0x0d && byte < 0x20 && byte !== 0x1b)

const decoder = new TextDecoder('latin1')
/** Without a byte order mark. */
const headOf = (bytes: Uint8Array) => decoder.decode(bytes.subarray(0, headBytes)).replace(/^ï»¿/, '')

/** Checks whether bytes are a web page: by how they begin, as browsers do (WHATWG MIME Sniffing, 7.1). */
export function isWebPage(bytes: Uint8Array): boolean {
  const head = headOf(bytes)
  const begins =
    /^\s*(<\?xml[^>]*>\s*)?(<!--[\s\S]*?(-->|$)\s*)*<(!doctype html|html|head|body|script|title|meta|iframe|h1|div|table|p|a|br)[\s>/]/i
  return begins.test(head)
}

/** Checks whether bytes begin as text does, in UTF-8 or in a character set with one byte for each. */
export const isText = (bytes: Uint8Array) => bytes.length > 0 && !bytes.subarray(0, headBytes).some(isBinary)
