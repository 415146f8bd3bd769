import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Where benchmarks keep models that they make, from one run to the next. */
export const benchFolder = join(tmpdir(), 'turbine-bench')

/** The bundled starter model. */
export const starterFolder = fileURLToPath(new URL('../../infra/starter-model/model', import.meta.url))
