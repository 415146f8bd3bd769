import { readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

export { bundledModel } from './folder.ts'

const pictures = new URL('./samples/', import.meta.url)

/** Paths of the bundled pictures, in the order of their names; each is named after its caption. */
export const bundledPictures: string[] = readdirSync(pictures)
  .sort()
  .map((name) => fileURLToPath(new URL(name, pictures)))
