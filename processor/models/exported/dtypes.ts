/** Ends of file names by the type of the weights, in the layout of transformers.js. */
export const dtypeSuffixes = {
  fp32: '',
  fp16: '_fp16',
  q8: '_quantized',
  int8: '_int8',
  uint8: '_uint8',
  q4: '_q4',
  q4f16: '_q4f16',
  bnb4: '_bnb4',
} as const
export type Dtype = keyof typeof dtypeSuffixes
export const dtypes = Object.keys(dtypeSuffixes) as Dtype[]
const isDtype = (name: string | undefined): name is Dtype =>
  name !== undefined && Object.hasOwn(dtypeSuffixes, name)

/** Path of a session's file in a model folder. */
export const sessionPath = (session: string, dtype: Dtype) => `onnx/${session}${dtypeSuffixes[dtype]}.onnx`

/** Types whose files have one scale for a whole batch, so that a row depends on its neighbours. */
export const batchDependent: readonly Dtype[] = ['q8', 'int8', 'uint8']

/** What the types of a model's sessions are chosen by. */
export interface DtypeOptions {
  /** One that all sessions are to have; default: what the model's configuration says, else by the device. */
  dtype?: Dtype
  device?: 'cpu' | 'gpu'
  /** What config.json says of how transformers.js loads it. */
  stated?: unknown
}

/** Model that exists but cannot be served; the message has no subject. */
export class LayoutError extends Error {
  override readonly name = 'LayoutError'
}

/**
 * On a GPU half precision, which it is made for. On the CPU full precision: 8-bit files of this layout have one scale for a whole
 * batch, so that a caption depends on its neighbours, and half precision is computed in full there; then 4-bit weights, whose
 * rows do not depend on each other.
 */
const byDevice: Record<NonNullable<DtypeOptions['device']>, readonly Dtype[]> = {
  gpu: ['fp16', 'q4f16', 'fp32', 'q4', 'bnb4', 'q8', 'int8', 'uint8'],
  cpu: ['fp32', 'q4', 'fp16', 'q4f16', 'bnb4', 'q8', 'int8', 'uint8'],
}

/**
 * The type of each session.
 * @param files names, `onnx/vision_encoder_q4.onnx`
 * @throws LayoutError that names the types that there are
 */
export function chooseDtypes(
  sessions: readonly string[],
  files: Iterable<string>,
  { dtype, device = 'cpu', stated }: DtypeOptions = {},
): Record<string, Dtype> {
  const names = new Set(files)
  const typesOf = (session: string) => dtypes.filter((each) => names.has(sessionPath(session, each)))
  const there = new Map(sessions.map((session) => [session, typesOf(session)]))
  for (const [session, types] of there)
    if (types.length === 0) throw new LayoutError(`has no ${sessionPath(session, 'fp32')}, in no type.`)
  const inAll = (type: Dtype) => sessions.every((session) => there.get(session)!.includes(type))
  if (dtype !== undefined) {
    const lacking = sessions.find((session) => !there.get(session)!.includes(dtype))
    if (lacking === undefined) return Object.fromEntries(sessions.map((session) => [session, dtype]))
    throw new LayoutError(
      `has no ${sessionPath(lacking, dtype)}. All of its sessions are there as ${dtypes.filter(inAll).join(', ') || 'no single type: leave out --dtype'}.`,
    )
  }
  const order = byDevice[device]
  const common = order.find(inAll)
  return Object.fromEntries(
    sessions.map((session) => {
      const types = there.get(session)!
      const wanted = statedDtype(session, stated)
      const own = wanted !== undefined && types.includes(wanted) ? wanted : undefined
      return [session, own ?? common ?? order.find((each) => types.includes(each))!]
    }),
  )
}

/** The type that the model's configuration asks for: one for all, or by session. */
function statedDtype(session: string, stated: unknown): Dtype | undefined {
  const bySession = typeof stated === 'object' && stated !== null && Object.hasOwn(stated, session)
  const name: unknown = bySession ? (stated as Record<string, unknown>)[session] : stated
  return typeof name === 'string' && isDtype(name) ? name : undefined
}
