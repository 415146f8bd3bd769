import type { TopLevelSpec } from 'vega-lite'

/** A chart as Vega-Lite describes it, data included. */
export type ChartSpec = TopLevelSpec

/**
 * Draws a chart as SVG.
 *
 * @throws Error when the description is no chart
 * @example
 * const svg = await drawSvg({
 *   data: { values: [{ second: 0, images: 12 }] },
 *   mark: 'line',
 *   encoding: { x: { field: 'second', type: 'quantitative' }, y: { field: 'images', type: 'quantitative' } },
 * })
 */
export async function drawSvg(spec: ChartSpec): Promise<string> {
  // Loaded on demand, because it takes a while.
  const [{ compile }, { parse, View }] = await Promise.all([import('vega-lite'), import('vega')])
  const view = new View(parse(compile(spec).spec), { renderer: 'none' })
  try {
    return await view.toSVG()
  } finally {
    view.finalize()
  }
}
