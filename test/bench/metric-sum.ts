/**
 * Sum over the series of a metric that have these labels, out of Prometheus' text format; 0 when there are none.
 * @example metricSum(text, 'turbine_images_total', { lane: 'batch' })
 */
export function metricSum(text: string, name: string, labels: Record<string, string> = {}): number {
  const wanted = Object.entries(labels).map(([label, value]) => `${label}="${value}"`)
  let sum = 0
  for (const line of text.split('\n')) {
    const match = /^(\w+)(?:\{(.*)\})? (\S+)/.exec(line)
    if (match?.[1] !== name) continue
    const given = match[2]?.split(',') ?? []
    if (wanted.every((label) => given.includes(label))) sum += Number(match[3])
  }
  return sum
}
