// Empty does nothing with what ipcd cannot do without: the measure for the page faults of "ipcd call".
package main

import _ "net"

func main() {}
