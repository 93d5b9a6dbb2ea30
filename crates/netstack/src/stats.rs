//! Where every packet that went nowhere went: counters with names.

use core::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why a packet was dropped. Each has a counter of its name in [`Drops`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// All of them, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name of the counter.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

reasons! {
    /// An Ethernet frame, or one of its VLAN tags, ends early.
    EthernetMalformed = "ethernet_malformed",
    /// An Ethernet type that the stack does not speak.
    EthernetType = "ethernet_type",
    /// The frame is for another station.
    EthernetDestination = "ethernet_destination",
    /// The frame's source is a group address, or ours.
    EthernetSource = "ethernet_source",
    /// No interface has the VLAN tags.
    VlanUnknown = "vlan_unknown",
    /// The port has no interface.
    PortUnknown = "port_unknown",
    /// ARP that is malformed, or of other hardware or protocol.
    ArpMalformed = "arp_malformed",
    /// ARP that tells nothing that we want to know: RFC 826 has it ignored.
    ArpIgnored = "arp_ignored",
    /// ARP of somebody who uses our address.
    ArpConflict = "arp_conflict",
    /// An IPv4 header that contradicts itself or the frame.
    Ipv4Malformed = "ipv4_malformed",
    /// An IPv4 header with a wrong checksum.
    Ipv4Checksum = "ipv4_checksum",
    /// IPv4 options that contradict themselves, or a source route, which RFC 7126 has dropped.
    Ipv4Options = "ipv4_options",
    /// An IPv6 header that contradicts itself or the frame.
    Ipv6Malformed = "ipv6_malformed",
    /// IPv6 extension headers that contradict themselves, are too many, or stand where they may not.
    Ipv6Extensions = "ipv6_extensions",
    /// An IPv6 option or routing header that says to drop what is not understood.
    Ipv6Option = "ipv6_option",
    /// A source that cannot be one: multicast, broadcast, loopback, unspecified where it may not be, or an address of ours.
    IpSource = "ip_source",
    /// For another host: the stack does not forward.
    IpNotForUs = "ip_not_for_us",
    /// A multicast group that nobody joined.
    IpGroup = "ip_group",
    /// An upper protocol that the stack does not speak.
    IpProtocol = "ip_protocol",
    /// A fragment that contradicts itself or the others: its length, its end, the datagram's size.
    FragmentMalformed = "fragment_malformed",
    /// A first fragment without all headers up to the upper protocol's: RFC 7112.
    FragmentHeaders = "fragment_headers",
    /// A fragment that overlaps another: RFC 5722, and for IPv4 alike.
    FragmentOverlap = "fragment_overlap",
    /// A fragment that is there already, byte for byte.
    FragmentDuplicate = "fragment_duplicate",
    /// A datagram with more pieces, or more bytes, than may wait.
    FragmentLimit = "fragment_limit",
    /// A fragment of a datagram that was never completed.
    FragmentTimeout = "fragment_timeout",
    /// A fragment that made room for newer ones.
    FragmentEvicted = "fragment_evicted",
    /// ICMP that ends early or contradicts itself.
    IcmpMalformed = "icmp_malformed",
    /// ICMP with a wrong checksum.
    IcmpChecksum = "icmp_checksum",
    /// ICMP of a kind that the stack has no use for.
    IcmpType = "icmp_type",
    /// An echo request to a group or broadcast address, where the configuration has it ignored.
    IcmpBroadcast = "icmp_broadcast",
    /// An ICMP error about a packet that we did not send, or an echo reply that no socket waits for.
    IcmpUnrelated = "icmp_unrelated",
    /// An echo request over the rate.
    IcmpRate = "icmp_rate",
    /// A redirect, where the configuration has it refused.
    IcmpRedirect = "icmp_redirect",
    /// Neighbour discovery that breaks RFC 4861: hop limit, source, options.
    NdpMalformed = "ndp_malformed",
    /// Neighbour discovery that tells nothing that we want to know.
    NdpIgnored = "ndp_ignored",
    /// Neighbour discovery of somebody who uses our address.
    NdpConflict = "ndp_conflict",
    /// IGMP or MLD that is malformed or of a kind that a host has no use for.
    GroupMalformed = "group_malformed",
    /// IGMP or MLD that is for routers.
    GroupIgnored = "group_ignored",
    /// No room to join the group of an address of ours.
    GroupTableFull = "group_table_full",
    /// A UDP header that contradicts the packet.
    UdpMalformed = "udp_malformed",
    /// A UDP datagram with a wrong checksum, or over IPv6 with none.
    UdpChecksum = "udp_checksum",
    /// No socket on the port.
    UdpNoSocket = "udp_no_socket",
    /// The socket's receive queue is full.
    UdpQueueFull = "udp_queue_full",
    /// The socket was closed with the datagram unread.
    UdpClosed = "udp_closed",
    /// The echo socket's receive queue, or that of its failures, is full.
    EchoQueueFull = "echo_queue_full",
    /// The echo socket was closed with the reply unread.
    EchoClosed = "echo_closed",
    /// No route to the destination.
    NoRoute = "no_route",
    /// The interface has no address to send from.
    NoSource = "no_source",
    /// The neighbour did not answer.
    NeighbourFailed = "neighbour_failed",
    /// Too many packets wait for this neighbour, or for all.
    NeighbourQueueFull = "neighbour_queue_full",
    /// The neighbour table is full of entries that may not go.
    NeighbourTableFull = "neighbour_table_full",
    /// No buffer was left for what was to be sent.
    NoBuffer = "no_buffer",
    /// The port's transmit queue is full.
    TransmitQueueFull = "transmit_queue_full",
    /// The packet does not fit: its headers, its buffer, its path.
    TooLarge = "too_large",
    /// The packet's bytes lie so that the stack cannot read or write its headers.
    Unreadable = "unreadable",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What came, went and was done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Frames received.
    pub received: u64,
    /// Packets put into a port's transmit queue; those cut into fragments count once.
    pub sent: u64,
    /// Echo requests answered.
    pub echoes: u64,
    /// ICMP errors sent.
    pub errors_sent: u64,
    /// ICMP errors that told something.
    pub errors_received: u64,
    /// Datagrams put together of fragments.
    pub reassembled: u64,
}

/// How many packets were dropped, for each [`Reason`].
#[derive(Clone, PartialEq, Eq)]
pub struct Drops([u64; Reason::ALL.len()]);

impl Drops {
    /// None dropped.
    #[must_use]
    pub const fn new() -> Self {
        Self([0; Reason::ALL.len()])
    }

    /// Counts one.
    #[inline]
    pub fn count(&mut self, reason: Reason) {
        self.add(reason, 1);
    }

    /// Counts several.
    #[inline]
    pub fn add(&mut self, reason: Reason, packets: u64) {
        self.0[reason as usize] += packets;
    }

    /// How many for this reason.
    #[inline]
    #[must_use]
    pub const fn of(&self, reason: Reason) -> u64 {
        self.0[reason as usize]
    }

    /// How many for any reason.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Those that are not zero, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let all = Reason::ALL
            .iter()
            .map(|reason| (reason.name(), self.of(*reason)));
        all.filter(|(_, count)| *count > 0)
    }
}

impl Default for Drops {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Drops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_counter_and_a_name_of_its_own() {
        let mut drops = Drops::new();
        for (place, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, place);
            drops.add(*reason, 2);
        }
        let names: std::collections::BTreeSet<_> = drops.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        assert_eq!(drops.total(), 2 * Reason::ALL.len() as u64);
    }
}
