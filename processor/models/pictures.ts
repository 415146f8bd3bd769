/** Kernels that a Hugging Face `preprocessor_config.json` can name. */
export type Resample = 'nearest' | 'lanczos3' | 'bilinear' | 'bicubic'

/** How an image becomes a model's pixels, as its Hugging Face image processor does; the graph normalises them. */
export type PictureRule =
  /** The whole image, whatever its sides: BLIP. */
  { kind: 'squash'; height: number; width: number; resample: Resample }

/** What an image became. */
export interface PictureShape {
  /** Tiles, or patches. */
  count: number
  /** Of tiles without that of the whole image, 0 where it was not split; of patches; else 1. */
  rows: number
  cols: number
}

/** A picture that is neither split nor cut into patches. */
export const wholePicture: PictureShape = { count: 1, rows: 1, cols: 1 }

/** Bytes of an image's pixels, `uint8 [count, H, W, 3]`. */
export const pictureBytes = (rule: PictureRule, { count }: PictureShape): number =>
  count * rule.height * rule.width * 3

/** What an image of this size becomes. */
export const shapeOf = (_rule: PictureRule, _width: number, _height: number): PictureShape => wholePicture
