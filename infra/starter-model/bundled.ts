import { readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const pictures = new URL('./samples/', import.meta.url)

/** The folder of the starter model, in the Hugging Face layout; its name is the model's id. */
export const bundledModel = fileURLToPath(new URL('./turbine-starter', import.meta.url))

/** Paths of the bundled pictures, in the order of their names; each is named after its caption. */
export const bundledPictures: string[] = readdirSync(pictures)
  .sort()
  .map((name) => fileURLToPath(new URL(name, pictures)))
