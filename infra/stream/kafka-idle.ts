import RequestQueue from 'kafkajs/src/network/requestQueue/index.js'

/**
 * kafkajs 2.2.4 checks for requests to send even while none wait: 1,000 times a second on Node, without any pause on
 * Workers, where it takes a core (tulios/kafkajs#1704). This checks only while requests wait; a new one starts it again.
 */
const { scheduleCheckPendingRequests } = RequestQueue.prototype
RequestQueue.prototype.scheduleCheckPendingRequests = function (this: RequestQueue) {
  if (this.pending.length > 0) scheduleCheckPendingRequests.call(this)
}
