import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Where benchmarks keep models that they make, from one run to the next. */
export const benchFolder = join(tmpdir(), 'turbine-bench')
