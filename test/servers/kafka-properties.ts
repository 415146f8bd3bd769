/** A user that every listener with SASL knows, by PLAIN and by SCRAM. */
export const user = { username: 'turbine', password: 'turbine-secret' }

export interface Ports {
  controller: number
  plain: number
  sasl: number
  tls: number
  saslTls: number
}

interface Listening {
  secure: boolean
  /** What clients of the plain listener are told to connect to. */
  advertised: string
}

/** `server.properties` of one broker that is its own controller, on loopback. Paths are relative to its folder. */
export function serverProperties(ports: Ports, { secure, advertised }: Listening): string {
  const listeners = [
    { name: 'PLAINTEXT', protocol: 'PLAINTEXT', address: `127.0.0.1:${ports.plain}` },
    ...(secure ? secureListeners(ports) : []),
  ]
  const controller = `127.0.0.1:${ports.controller}`
  const protocols = listeners.map(({ name, protocol }) => `${name}:${protocol}`)
  const addresses = listeners.map(({ name, address }) => `${name}://${address}`)
  const [, ...rest] = addresses
  return properties({
    'process.roles': 'broker,controller',
    'node.id': '1',
    'controller.quorum.voters': `1@${controller}`,
    'controller.listener.names': 'CONTROLLER',
    'inter.broker.listener.name': 'PLAINTEXT',
    listeners: [...addresses, `CONTROLLER://${controller}`].join(','),
    'advertised.listeners': [`PLAINTEXT://${advertised}`, ...rest].join(','),
    'listener.security.protocol.map': [...protocols, 'CONTROLLER:PLAINTEXT'].join(','),
    'log.dirs': 'data',
    'auto.create.topics.enable': 'false',
    // One broker cannot hold the three copies that these have by default.
    'offsets.topic.replication.factor': '1',
    'offsets.topic.num.partitions': '4',
    'transaction.state.log.replication.factor': '1',
    'transaction.state.log.min.isr': '1',
    'transaction.state.log.num.partitions': '4',
    'share.coordinator.state.topic.replication.factor': '1',
    'share.coordinator.state.topic.min.isr': '1',
    // Waiting for more members would cost every first join three seconds.
    'group.initial.rebalance.delay.ms': '0',
    // After a kill the broker may register again only when its last session is over.
    'broker.session.timeout.ms': '2000',
    'broker.heartbeat.interval.ms': '500',
    'num.network.threads': '2',
    'num.io.threads': '2',
    ...(secure ? security() : {}),
  })
}

function secureListeners(ports: Ports) {
  return [
    { name: 'SASLPLAIN', protocol: 'SASL_PLAINTEXT', address: `127.0.0.1:${ports.sasl}` },
    { name: 'TLS', protocol: 'SSL', address: `localhost:${ports.tls}` },
    { name: 'SASLTLS', protocol: 'SASL_SSL', address: `localhost:${ports.saslTls}` },
  ]
}

function security(): Record<string, string> {
  const { username, password } = user
  const modules = {
    plain: `org.apache.kafka.common.security.plain.PlainLoginModule required user_${username}="${password}";`,
    'scram-sha-256': 'org.apache.kafka.common.security.scram.ScramLoginModule required;',
    'scram-sha-512': 'org.apache.kafka.common.security.scram.ScramLoginModule required;',
  }
  const logins = ['saslplain', 'sasltls'].flatMap((listener) =>
    Object.entries(modules).map(([mechanism, module]) => [
      `listener.name.${listener}.${mechanism}.sasl.jaas.config`,
      module,
    ]),
  )
  return {
    'sasl.enabled.mechanisms': 'PLAIN,SCRAM-SHA-256,SCRAM-SHA-512',
    ...Object.fromEntries(logins),
    'ssl.keystore.type': 'PEM',
    'ssl.keystore.location': 'keystore.pem',
    'ssl.truststore.type': 'PEM',
    'ssl.truststore.location': 'authority.pem',
  }
}

function properties(entries: Record<string, string>): string {
  return Object.entries(entries)
    .map(([name, value]) => `${name}=${value}\n`)
    .join('')
}
