import type { ImageLimits } from '../../../edge/contract/image.ts'
import type { ImageWork } from '../../../edge/contract/image-work.ts'
import type { Config } from '../../../infra/config.ts'
import type { ObjectPlace } from '../../../infra/fetch/image-reader.ts'
import type { PictureRule } from '../../models/pictures.ts'
import type { Decoded, DecodeLimits, DecoderOptions, LossReason } from '../decoder.ts'
import type { WireError } from './wire-error.ts'

/** What a loader is started with. */
export interface LoaderSettings {
  config: Config
  /** Of Turbine. */
  version: string
  /** Bytes of an image at most. */
  maxBytes: number
  /** How much of an image is accepted. */
  limits: ImageLimits
  /** Whether it reads files by their paths. */
  readsFiles: boolean
}

/** Where an image is; `stored` is a key of the service's own store. */
export type ImagePlace =
  | { web: string }
  | { object: ObjectPlace }
  | { data: string }
  | { file: string }
  | { stored: string }

/** To a loader. `id` is that of a read or a decode, `decoder` that of a decoder; both are given by the main thread. */
export type ToLoader =
  /**
   * @param param the field that held the image, for errors. @param room bytes for which there is memory: of a larger image it
   * tells the size, and waits
   */
  | { kind: 'read'; id: number; place: ImagePlace; param: string; room: number }
  /** There is memory for the image. */
  | { kind: 'room'; id: number }
  | { kind: 'abort'; id: number }
  /** Nobody reads the bytes of the image any more. */
  | { kind: 'free'; id: number }
  | { kind: 'start'; decoder: number; options: DecoderOptions }
  | {
      kind: 'decode'
      decoder: number
      image: Uint8Array
      rule: PictureRule
      /** Where pixels go; absent where their number is not known. */
      pixels?: Uint8Array<SharedArrayBuffer>
      limits: DecodeLimits
    }
  | { kind: 'give-way'; decoder: number }
  | { kind: 'kill'; decoder: number; reason: LossReason }
  | { kind: 'end'; decoder: number }
  | { kind: 'close' }

/** From a loader. */
export type FromLoader =
  | { kind: 'open' }
  | { kind: 'room'; id: number; bytes: number }
  | {
      kind: 'image'
      id: number
      bytes: Uint8Array<SharedArrayBuffer>
      size?: { width: number; height: number }
      work?: ImageWork
      refusal?: WireError
    }
  | { kind: 'location'; id: number; location: string }
  /** There is no such object; of the service's own store alone. */
  | { kind: 'none'; id: number }
  | { kind: 'failed'; id: number; error: WireError }
  | { kind: 'ready'; decoder: number }
  | {
      kind: 'decoded'
      decoder: number
      decoded: Omit<Decoded, 'shape'>
      /** Where they did not fit in where they were to go. */
      pixels?: Uint8Array<SharedArrayBuffer>
      grownBytes: number
    }
  /** `usable` unless the decoder is gone. */
  | { kind: 'refused'; decoder: number; error: WireError; usable: boolean; grownBytes: number }
  | { kind: 'ended'; decoder: number }
