import { InferenceSession } from 'onnxruntime-node'

export type SessionOptions = InferenceSession.SessionOptions

/** For a session that runs but a few times: weights stay in their files instead of being copied into the order that products like. */
export const runsFewTimes = (options: SessionOptions = {}): SessionOptions => ({
  ...options,
  extra: {
    ...options.extra,
    session: { ...(options.extra?.session as Record<string, unknown> | undefined), disable_prepacking: '1' },
  },
})

/** On a CPU its operator takes six times what an addition and a layer norm take (ONNX Runtime 1.30). */
const slowFusions = 'SkipLayerNormFusion'

/** True for sessions without a GPU or the like. */
export const isOnCpu = ({ executionProviders = ['cpu'] }: SessionOptions) =>
  executionProviders.every((each) => (typeof each === 'string' ? each : each.name) === 'cpu')

/**
 * Opens a graph whose weights are external data in files of `folder`.
 * Threads yield instead of spinning between runs: decoding and the network need the cores too.
 */
export function openSession(
  graph: Uint8Array,
  folder: string,
  options: SessionOptions = {},
): Promise<InferenceSession> {
  return InferenceSession.create(graph, {
    logSeverityLevel: 3,
    ...options,
    extra: {
      ...options.extra,
      ...(isOnCpu(options) && {
        optimization: {
          disable_specified_optimizers: slowFusions,
          ...(options.extra?.optimization as Record<string, unknown> | undefined),
        },
      }),
      session: {
        model_external_initializers_file_folder_path: folder,
        intra_op: { allow_spinning: '0' },
        ...(options.extra?.session as Record<string, unknown> | undefined),
      },
    },
  })
}
