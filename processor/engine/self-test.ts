import { mkdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { privateDirectory, privateFile } from '../../infra/durable.ts'
import type { CaptionModel, GraphOptions } from '../models/model.ts'
import type { DeviceTarget } from './device-target.ts'
import { modelIdentity } from './model-identity.ts'
import { sessionOptions } from './session-options.ts'

export interface TestOnceOptions {
  device: DeviceTarget
  graph?: GraphOptions
  intraOpThreads?: number
  /** Folder for what was tested; default: each start tests. */
  folder?: string
  /** Called when it could not be noted; the next start tests again. */
  onNoteError?(error: unknown): void
}

/**
 * Compares a model's sessions with its own files before it is served, once for each model, version and device.
 * @throws ModelFolderError when they differ, DeviceOpenError
 */
export async function testOnce(model: CaptionModel, options: TestOnceOptions): Promise<void> {
  if (model.selfTest === undefined) return
  const { device, graph, intraOpThreads, folder, onNoteError } = options
  const note = folder && join(folder, `tested-${await modelIdentity(model, { device: device.name, graph })}`)
  if (note && (await exists(note))) return
  await model.selfTest({
    graph: { ...graph, gpu: device.provider === 'cuda' },
    session: sessionOptions(device, intraOpThreads),
  })
  if (note) await writeNote(folder, note).catch((error: unknown) => onNoteError?.(error))
}

const exists = (file: string) =>
  stat(file).then(
    () => true,
    () => false,
  )

async function writeNote(folder: string, file: string): Promise<void> {
  await mkdir(folder, { recursive: true, mode: privateDirectory })
  await writeFile(file, '', { mode: privateFile })
}
