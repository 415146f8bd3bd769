import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { z } from 'zod'
import { ModelFolderError } from '../onnx/weights.ts'

/** Reads a text file of a model folder; undefined when it is missing. @throws ModelFolderError */
export async function readModelText(folder: string, name: string): Promise<string | undefined> {
  const file = join(folder, name)
  return readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT') return undefined
    throw new ModelFolderError(`${file} cannot be read.`, { cause })
  })
}

/** Reads and validates a JSON file of a model folder; undefined when it is missing. @throws ModelFolderError that names the field */
export async function readModelJson<Schema extends z.ZodType>(
  folder: string,
  name: string,
  schema: Schema,
  remedy = 'Pull the model again.',
): Promise<z.output<Schema> | undefined> {
  const text = await readModelText(folder, name)
  if (text === undefined) return undefined
  const file = join(folder, name)
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (cause) {
    throw new ModelFolderError(`${file} is not JSON. ${remedy}`, { cause })
  }
  const parsed = schema.safeParse(json)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]!
  throw new ModelFolderError(`${file}: ${issue.path.join('.') || 'the file'}: ${issue.message}. ${remedy}`)
}

/** Like `readModelJson`, for a file that every model folder has. @throws ModelFolderError */
export async function requireModelJson<Schema extends z.ZodType>(
  folder: string,
  name: string,
  schema: Schema,
): Promise<z.output<Schema>> {
  const value = await readModelJson(folder, name, schema)
  if (value !== undefined) return value
  throw new ModelFolderError(
    `${join(folder, name)} is missing. A model folder needs config.json, preprocessor_config.json, tokenizer.json or vocab.txt, and model.safetensors.`,
  )
}
