/** A machine that can be rented. */
export interface Machine {
  name: string
  /** List price, US dollars an hour. */
  dollarsAnHour: number
  /** Cores; of CPUs that sell threads, half of them. */
  cores: number
}

/** On-demand list prices of AWS, us-east-1, Linux. */
export const machines: readonly Machine[] = [
  { name: 'c7i.2xlarge', dollarsAnHour: 0.357, cores: 4 },
  { name: 'c7a.2xlarge', dollarsAnHour: 0.41056, cores: 8 },
]

/** US dollars for a million images on a machine that captions so many a second. */
export const dollarsPerMillion = (dollarsAnHour: number, imagesPerSecond: number): number =>
  (dollarsAnHour / 3600 / imagesPerSecond) * 1e6

/**
 * Reads `none`, `list`, or machines as `NAME=DOLLARS/CORES`, separated by commas.
 * @throws RangeError
 */
export function parseMachines(text: string): readonly Machine[] {
  if (text === 'none') return []
  if (text === 'list') return machines
  return text.split(',').map((part) => {
    const [, name, dollars, cores] = /^([^=]+)=([\d.]+)\/(\d+)$/.exec(part) ?? []
    if (!name || !(Number(dollars) > 0) || !(Number(cores) > 0))
      throw new RangeError(
        `--price is none, list, or NAME=DOLLARS/CORES (dollars an hour, cores), got ${JSON.stringify(part)}`,
      )
    return { name, dollarsAnHour: Number(dollars), cores: Number(cores) }
  })
}

/**
 * Dollars for a million images by machine and side: the rate measured here, as many times as the machine has more cores.
 *
 * @param rates images/s of each side on `cores` cores
 */
export function pricesOf(
  list: readonly Machine[],
  rates: Record<string, number>,
  cores: number,
): Record<string, Record<string, number>> {
  return Object.fromEntries(
    list.map(({ name, dollarsAnHour, cores: there }) => [
      name,
      Object.fromEntries(
        Object.entries(rates).map(([side, rate]) => [
          side,
          dollarsPerMillion(dollarsAnHour, (rate * there) / cores),
        ]),
      ),
    ]),
  )
}
