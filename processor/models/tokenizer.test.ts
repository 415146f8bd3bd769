import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { bundledModel } from '../../infra/starter-model/bundled.ts'
import { loadTokenizer } from './tokenizer.ts'

const starterModel = bundledModel

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turbine-tokenizer-'))
})
afterEach(() => rm(folder, { recursive: true }))

const copy = (name: string) => copyFile(join(starterModel, name), join(folder, name))

/** Text, its ids and what comes back, as `BertTokenizerFast` of transformers 4.57 has it on the starter model. */
const known: [text: string, ids: number[], decoded: string][] = [
  ['a Photo  of', [7, 16, 11], 'a photo of'],
  [
    "it's a boat - house , don't !",
    [58, 111, 90, 68, 7, 37, 91, 35, 87, 53, 106, 105, 90, 69, 88],
    "it's a boat - house, don't!",
  ],
  ['Élan 中 x', [54, 103, 92, 105, 1, 73], 'elan x'],
  ['a small fish, at sea.', [7, 17, 36, 87, 42, 43, 86], 'a small fish, at sea.'],
]

describe('loadTokenizer', () => {
  describe.each(['tokenizer.json', 'vocab.txt'])('from %s', (file) => {
    it.each(known)('%s', async (text, ids, decoded) => {
      await copy(file)
      const tokenizer = await loadTokenizer(folder)
      expect(tokenizer.encodePrompt(text)).toEqual(ids)
      expect(tokenizer.decode([5, ...ids, 3, 0, 0])).toBe(decoded)
    })

    it('takes nothing for nothing', async () => {
      await copy(file)
      const tokenizer = await loadTokenizer(folder)
      expect(tokenizer.encodePrompt('')).toEqual([])
      expect(tokenizer.decode([])).toBe('')
      expect(tokenizer.decode([5, 3])).toBe('')
    })

    it('leaves out ids that the vocabulary does not have', async () => {
      await copy(file)
      const tokenizer = await loadTokenizer(folder)
      expect(tokenizer.decode([30_522, 7, 30_523, 36, 3])).toBe('a fish')
    })

    it('takes out the spaces before punctuation', async () => {
      await copy(file)
      const tokenizer = await loadTokenizer(folder)
      const ids = tokenizer.encodePrompt('a fish , a boat . a car !')
      expect(tokenizer.decode(ids)).toBe('a fish, a boat. a car!')
    })
  })

  it('reads a folder of the starter model', async () => {
    const tokenizer = await loadTokenizer(starterModel)
    expect(tokenizer.decode(tokenizer.encodePrompt('a large orange fish'))).toBe('a large orange fish')
  })

  it('keeps capital letters where the configuration says so', async () => {
    await writeFile(join(folder, 'vocab.txt'), '[PAD]\n[UNK]\na\nA\n')
    await writeFile(join(folder, 'tokenizer_config.json'), '{"do_lower_case": false}')
    expect((await loadTokenizer(folder)).encodePrompt('a A')).toEqual([2, 3])
  })

  it('refuses a folder without either file', async () => {
    await expect(loadTokenizer(folder)).rejects.toMatchObject({
      name: 'ModelFolderError',
      message: expect.stringMatching(/neither tokenizer\.json nor vocab\.txt/),
    })
  })

  it.each(['not json', '{}', '{"model": {"type": "Nonsense"}}'])(
    'refuses a tokenizer.json of %s',
    async (text) => {
      await writeFile(join(folder, 'tokenizer.json'), text)
      await expect(loadTokenizer(folder)).rejects.toMatchObject({
        name: 'ModelFolderError',
        message: expect.stringMatching(/tokenizer\.json/),
      })
    },
  )
})
