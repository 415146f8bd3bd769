/** What a processor computes with: from a batch down to one node of a graph, each on top of those after it. */
const layers = ['pipeline', 'decoding', 'engine', 'models', 'turbo', 'onnx'].map(
  (name) => `processor/${name}`,
)
const below = (layer: string) => layers.slice(layers.indexOf(`processor/${layer}`) + 1)

const contract = 'edge/contract'
const scheduling = 'processor/scheduling'
const delivery = 'processor/delivery'
const fleet = 'processor/fleet'
const batches = 'processor/batches'

/**
 * Which way imports point. Each row is a folder and what its files may import beside each other; nothing else of the
 * repository. Files of `edge/guard` keep to the row of `edge` as well. Every file needs a row, so a new folder does.
 */
export const arrows: Readonly<Record<string, readonly string[]>> = {
  infra: [],

  // Of infra only what a record, an object, an address and an error look like: the contract does no I/O.
  [contract]: [
    'infra/errors.ts',
    'infra/nearest.ts',
    'infra/fetch/image-address.ts',
    'infra/store/slices.ts',
    'infra/stream/stream.ts',
  ],
  'edge/accounts': [contract, 'edge/deps.ts', 'infra'],
  'edge/fleet': [contract, 'infra'],
  'edge/guard': [contract, 'edge/accounts', 'edge/deps.ts', 'infra'],
  'edge/submit': [contract, 'edge/guard', 'edge/deps.ts', 'infra'],
  'edge/api': [contract, 'edge/guard', 'edge/submit', 'edge/deps.ts', 'infra'],
  edge: ['infra'],

  'processor/onnx': ['infra/durable.ts'],
  'processor/turbo': below('turbo'),
  'processor/models': [
    ...below('models'),
    contract,
    'infra/file-body.ts',
    'infra/retry.ts',
    'infra/timing.ts',
  ],
  [scheduling]: [],
  'processor/decoding': [
    ...below('decoding'),
    scheduling,
    contract,
    // Loaders read images from wherever they are.
    'infra',
  ],
  'processor/engine': [
    ...below('engine'),
    scheduling,
    contract,
    'infra/cores.ts',
    'infra/durable.ts',
    'infra/retry.ts',
    'infra/timing.ts',
    'infra/user-cache.ts',
  ],
  'processor/pipeline': [
    ...below('pipeline'),
    scheduling,
    contract,
    'infra/config.ts',
    'infra/cores.ts',
    'infra/fair-budget.ts',
    'infra/memory.ts',
    'infra/telemetry',
    'infra/starter-model',
  ],
  [delivery]: [contract, 'infra'],
  [fleet]: [delivery, scheduling, contract, 'infra'],
  [batches]: [...layers, fleet, delivery, scheduling, contract, 'infra'],
  'processor/jobs': [batches, ...layers, fleet, delivery, scheduling, contract, 'infra'],
  'processor/sweeper': [delivery, contract, 'infra'],
  'processor/service': [
    'processor/jobs',
    'processor/sweeper',
    batches,
    ...layers,
    fleet,
    delivery,
    scheduling,
    'edge',
    'infra',
  ],

  'processor/calibration': [...layers, contract, 'infra'],
  'processor/cli': [
    'processor/service',
    'processor/calibration',
    ...layers,
    delivery,
    contract,
    'edge/accounts',
    'infra',
  ],
  'processor/simulator': [
    'processor/cli',
    'processor/service',
    ...layers,
    fleet,
    scheduling,
    contract,
    'infra',
  ],
}
