/** Where a response redirects to, as browsers read it; undefined for none. */
export function locationOf(headers: Headers): string | undefined {
  const location = headers.get('location')
  if (location === null || location.trim() === '') return undefined
  return fromUtf8(location)
}

/** Headers are read byte by byte; many servers send UTF-8. Anything else is left as it is. */
function fromUtf8(header: string): string {
  // Some platforms decode it themselves.
  const codes = Array.from(header, (character) => character.charCodeAt(0))
  if (!codes.some((code) => code > 0x7f) || codes.some((code) => code > 0xff)) return header
  const bytes = Uint8Array.from(codes)
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    return header
  }
}

/** A fully qualified name, without its last dot: certificates and virtual servers are named without it. */
export function withoutDot(url: URL): URL {
  if (url.hostname.endsWith('.')) url.hostname = url.hostname.replace(/\.+$/, '')
  return url
}
