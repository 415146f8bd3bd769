const secretNames = new Set([
  'authorization',
  'proxyauthorization',
  'cookie',
  'setcookie',
  'password',
  'passphrase',
  'secret',
  'clientsecret',
  'token',
  'accesstoken',
  'sessiontoken',
  'apikey',
  'xapikey',
  'accesskeyid',
  'secretaccesskey',
  'privatekey',
  'signature',
])

const maxDepth = 6

/**
 * Copies a value for the log: fields with the names of secrets are replaced, bytes and `data:` URLs give their length
 * only, and URLs lose user, password, query and fragment, which can hold signatures. Errors become plain objects.
 */
export function redact(value: unknown, depth = 0): unknown {
  if (typeof value === 'string') return redactText(value)
  if (typeof value === 'bigint') return String(value)
  if (typeof value !== 'object' || value === null) return value
  if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`
  if (value instanceof URL) return redactText(value.href)
  if (value instanceof Date) return value
  if (depth === maxDepth) return '[...]'
  if (Array.isArray(value)) return value.map((item) => redact(item, depth + 1))
  if (value instanceof Map) return redact(Object.fromEntries(value), depth)
  if (value instanceof Set) return redact([...value], depth)
  const fields = value instanceof Error ? errorFields(value) : Object.entries(value)
  return Object.fromEntries(fields.map(([name, field]) => [name, redactField(name, field, depth)]))
}

function redactField(name: string, field: unknown, depth: number): unknown {
  const secret = secretNames.has(name.toLowerCase().replace(/[-_]/g, ''))
  return secret && field !== undefined ? '[redacted]' : redact(field, depth + 1)
}

/** `message`, `stack` and `cause` are not enumerable. */
function errorFields(error: Error): [string, unknown][] {
  const { name, message, stack, cause } = error
  const own = Object.entries(error).filter(([key]) => key !== 'name')
  return [['type', name], ['message', message], ...own, ['stack', stack], ['cause', cause]]
}

function redactText(text: string): string {
  return text
    .replace(
      /data:([\w.+-]+\/[\w.+-]+)?[^,\s]*,[A-Za-z0-9+/=_%-]*/g,
      (url, type = '') => `data:${type} [${url.length} characters]`,
    )
    .replace(/(https?:\/\/)[^\s/?#@]+@/g, '$1')
    .replace(/(https?:\/\/[^\s?#"'`)]+)[?#][^\s"'`)]*/g, '$1?[redacted]')
}
