import type { Feeds } from '../../onnx/probe.ts'
import { Probe, type Small } from '../../onnx/probe.ts'
import type { ModelProto } from '../../onnx/proto.ts'
import { sizesOnly } from '../../onnx/sizes-only.ts'
import { GraphView } from '../../onnx/view.ts'

/** Elements that a value has at most to be looked at. */
const smallSize = 64

/** An exported encoder with what one run of it told. */
export class Encoder {
  readonly model: ModelProto
  readonly view: GraphView
  readonly probe: Probe
  readonly #shapes: ReadonlyMap<string, readonly number[]>
  readonly #values: ReadonlyMap<string, Small>
  /** Tensors whose elements depend on the pixels. */
  readonly pixels: ReadonlySet<string>

  private constructor(
    model: ModelProto,
    probe: Probe,
    known: { shapes: ReadonlyMap<string, readonly number[]>; values: ReadonlyMap<string, Small> },
    view: GraphView,
    pixels: ReadonlySet<string>,
  ) {
    this.model = model
    this.view = view
    this.probe = probe
    this.#shapes = known.shapes
    this.#values = known.values
    this.pixels = pixels
  }

  /** @param pixels name of the input that holds the image */
  static async open(model: ModelProto, feeds: Feeds, pixels: string, folder: string): Promise<Encoder> {
    const view = new GraphView(model.graph)
    const dependents = view.dependents([pixels])
    // What depends on the pixels is asked for its size alone.
    const probe = new Probe({ ...model, graph: sizesOnly(model.graph, dependents) }, feeds, folder)
    const sizes = await probe.shapes()
    const shapes = new Map([...sizes].filter(([name]) => !name.startsWith('sizes/')))
    const small = [...shapes].filter(
      ([name, shape]) =>
        !dependents.has(name) && !(name in feeds) && shape.reduce((a, b) => a * b, 1) <= smallSize,
    )
    const values = await probe.values(small.map(([name]) => name))
    return new Encoder(model, probe, { shapes, values }, view, dependents)
  }

  /** Sizes in the probe's run. */
  shape(tensor: string): readonly number[] {
    return this.#shapes.get(tensor) ?? []
  }

  /** Elements of a small tensor that does not depend on the pixels, in the probe's run. */
  value(tensor: string | undefined): number[] | undefined {
    return tensor ? this.#values.get(tensor)?.data : undefined
  }

  /** The number in a tensor of one element that does not depend on the pixels. */
  scalar(tensor: string): number | undefined {
    const value = this.value(tensor)
    return value?.length === 1 ? value[0] : undefined
  }

  isPixels(tensor: string): boolean {
    return this.pixels.has(tensor)
  }
}
