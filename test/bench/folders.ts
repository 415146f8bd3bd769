import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Folder of generated models, kept between runs. */
export const benchFolder = join(tmpdir(), 'turbine-bench')
