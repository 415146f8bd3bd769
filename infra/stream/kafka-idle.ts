import RequestQueue from 'kafkajs/src/network/requestQueue/index.js'

/**
 * From its first answer on, kafkajs 2.2.4 looks for requests to send whenever its timer fires, with a delay below zero
 * while there are none: 1,000 times a second on Node, without any pause on Workers, where it takes a core (see
 * tulios/kafkajs#1704). There is nothing to look for while no request waits; a new one is sent, or makes the timer start
 * if the broker asked for a pause.
 */
const { scheduleCheckPendingRequests } = RequestQueue.prototype
RequestQueue.prototype.scheduleCheckPendingRequests = function (this: RequestQueue) {
  if (this.pending.length > 0) scheduleCheckPendingRequests.call(this)
}
