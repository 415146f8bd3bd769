import { link, rename, rm, stat, writeFile } from 'node:fs/promises'
import { extname } from 'node:path'
import { TurbineError } from '../../../../edge/contract/errors.ts'
import { encodeFileName } from '../../../../infra/file-name.ts'
import { FingerprintSet } from '../../../../infra/fingerprint-set.ts'
import { UsageError } from '../../errors.ts'
import { partFile } from '../../replace-file.ts'
import { isAddress, type Source } from '../manifest.ts'

/** A file of text beside each picture, as trainers of LoRAs read it: `photo.jpg` and `photo.txt`. */
export class Sidecars {
  readonly #extension: string
  readonly #overwrite: boolean
  readonly #written = new FingerprintSet(3)

  /** @throws UsageError for what is no extension */
  constructor(extension: string, overwrite: boolean) {
    if (!/^\.[^/\\\s]{1,32}$/.test(extension))
      throw new UsageError(`--sidecar ${extension} is no extension. Use one like .txt or .caption.`)
    this.#extension = extension
    this.#overwrite = overwrite
  }

  /** Undefined for a picture that lies in no file of its own. */
  pathOf({ location, bytes }: Source): string | undefined {
    if (location === undefined || bytes !== undefined || isAddress(location)) return undefined
    const { length } = extname(location)
    return `${length > 0 ? location.slice(0, -length) : location}${this.#extension}`
  }

  /** Whether there is one already that is to stay. */
  async isThere(source: Source): Promise<boolean> {
    if (this.#overwrite) return false
    const path = this.pathOf(source)
    if (path === undefined) return false
    return stat(encodeFileName(path)).then(
      () => true,
      () => false,
    )
  }

  /**
   * Writes one, whole or not at all, and never over another one unless it was asked for.
   * @throws TurbineError `no_sidecar`, `sidecar_exists`
   */
  async write(source: Source, caption: string): Promise<void> {
    const path = this.pathOf(source)
    if (path === undefined) throw noFile(source)
    if (!this.#written.add(path)) throw exists(path, 'Another picture of this run has it.')
    const part = partFile(path)
    await writeFile(encodeFileName(part), `${caption}\n`, { flag: 'wx' })
    try {
      if (this.#overwrite) await rename(encodeFileName(part), encodeFileName(path))
      else await link(encodeFileName(part), encodeFileName(path))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
      throw exists(path, 'Replace it with --overwrite.')
    } finally {
      await rm(encodeFileName(part), { force: true })
    }
  }
}

const noFile = ({ image }: Source) =>
  new TurbineError(`${image} is no file, so nothing can lie beside it. Write its caption with --out.`, {
    status: 400,
    code: 'no_sidecar',
  })

const exists = (path: string, remedy: string) =>
  new TurbineError(`${path} is there already. ${remedy}`, { status: 409, code: 'sidecar_exists' })
