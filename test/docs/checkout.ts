import { cp, mkdir, readdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { drawPictures } from '../e2e/pictures.ts'
import { temporaryFolder } from '../e2e/turbine.ts'
import { root } from './documents.ts'

/** Enough for `turbine calibrate`. */
const pictureCount = 24

/**
 * Draws what the documents take for granted: a picture `photo.jpg` and a folder `photos`.
 * @returns the folder that holds both
 */
export async function drawBelongings(): Promise<string> {
  const folder = await temporaryFolder()
  await mkdir(join(folder, 'photos'))
  const pictures = await drawPictures(pictureCount)
  await writeFile(join(folder, 'photo.jpg'), pictures[0]!.jpeg)
  for (const [index, { jpeg }] of pictures.entries())
    await writeFile(join(folder, 'photos', `scene-${index}.jpg`), jpeg)
  return folder
}

export interface CheckoutOptions {
  /** From `drawBelongings`. */
  belongings: string
  /** The data folder of the service that runs. */
  dataDir: string
}

/** A folder in which a reader can be: the repository, with pictures and a `.turbine` of its own. */
export async function makeCheckout({ belongings, dataDir }: CheckoutOptions): Promise<string> {
  const folder = await temporaryFolder()
  const entries = (await readdir(root)).filter((name) => !name.startsWith('.') || name === '.npmrc')
  for (const name of entries) await symlink(join(root, name), join(folder, name))
  await symlink(dataDir, join(folder, '.turbine'))
  await cp(belongings, folder, { recursive: true })
  return folder
}
