import { fileURLToPath } from 'node:url'

/** The folder of the starter model, in the Hugging Face layout; its name is the model's id. */
export const bundledModel = fileURLToPath(new URL('./turbine-starter', import.meta.url))
