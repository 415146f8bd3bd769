import type { Mention, Story } from './captions.ts'
import type { Placement, Point, Rgb } from './shapes.ts'

/** An object as drawn. */
export type SceneObject = Mention &
  Placement & {
    /** The object's own shade of its colour, before the light of the scene. */
    rgb: Rgb
  }

/** Scene as plain data. Equal scenes have equal pixels. */
export type Scene = Omit<Story, 'objects'> & {
  objects: SceneObject[]
  /** Horizon, in pixels from the top. */
  horizon: number
  /** Marks on the ground (grass, waves, ...) and in the sky (stars or birds). */
  groundMarks: Point[]
  skyMarks: Point[]
  /** Soft light and shadow: a 5 x 5 grid of relative brightness, row by row. */
  shading: number[]
  /** Brightness gained from the left edge to the right edge, relative. */
  lightFromRight: number
  exposure: number
  /** Seed of the sensor noise. */
  noise: number
}
