import { readFileSync } from 'node:fs'

const folder = new URL('../../test/fixtures/pictures/', import.meta.url)

/** What Hugging Face's processors make of pictures (`test/fixtures/make-pictures.py`). */
export const reference = JSON.parse(readFileSync(new URL('reference.json', folder), 'utf8')) as {
  /** `preprocessor_config.json` by the name of a rule. */
  configs: Record<string, object>
  cases: { picture: string; rule: string; count: number }[]
  /** Of Idefics3, of CLIP's shortest edge, of Qwen2-VL by their defaults. */
  sizes: [
    width: number,
    height: number,
    tiles: [rows: number, cols: number],
    shortest: [height: number, width: number],
    patches: [rows: number, cols: number] | null,
  ][]
}

export const pictureFile = (name: string) => readFileSync(new URL(`${name}.png`, folder))
