import { InferenceSession } from 'onnxruntime-node'

export type SessionOptions = InferenceSession.SessionOptions

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
      session: {
        model_external_initializers_file_folder_path: folder,
        intra_op: { allow_spinning: '0' },
        ...(options.extra?.session as Record<string, unknown> | undefined),
      },
    },
  })
}
