import { readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const folder = new URL('./samples/', import.meta.url)

/** Paths of the bundled pictures, in the order of their names; each is named after its caption. */
export const samplePictures: string[] = readdirSync(folder)
  .sort()
  .map((name) => fileURLToPath(new URL(name, folder)))
