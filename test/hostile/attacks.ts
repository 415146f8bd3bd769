import type { Attack } from './attack.ts'
import { batchLines } from './batch-lines.ts'
import { heavyBodies } from './heavy-bodies.ts'
import { images } from './images.ts'
import { json } from './json.ts'
import { leaving } from './leaving.ts'
import { refusedObjects } from './refusing-store.ts'
import { silentHosts } from './silent-hosts.ts'
import { slowBodies } from './slow-bodies.ts'
import { slowReaders } from './slow-readers.ts'

/** Every attack, by name. */
export const attacks = {
  json,
  'batch-lines': batchLines,
  leaving,
  'slow-readers': slowReaders,
  images,
  'slow-bodies': slowBodies,
  'heavy-bodies': heavyBodies,
  'refused-objects': refusedObjects,
  'silent-hosts': silentHosts,
} as const satisfies Record<string, Attack>

export type AttackName = keyof typeof attacks
